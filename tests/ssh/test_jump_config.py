"""The user's own SSH configuration for a jump host: our connections, ssh, scp and Nix take it alike, or refuse it."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from getpass import getuser
from pathlib import Path

import pytest

from nixops_proxmox.errors import SshRefused
from nixops_proxmox.model import Endpoint
from nixops_proxmox.ssh.argv import Access, Hop, config_text, nix_sshopts, scp_argv, ssh_argv, store_url
from nixops_proxmox.ssh.connect import FAMILIES, connect_tcp
from nixops_proxmox.ssh.files import replace_file
from nixops_proxmox.ssh.jump import FOLLOWED, HANDED_ON, NOTHING, WITHOUT_EFFECT, resolve, resolve_jump
from nixops_proxmox.ssh.keys import new_key_pair
from nixops_proxmox.ssh.known_hosts import KnownHost, write_known_hosts
from nixops_proxmox.ssh.session import open_session
from tests.nixes import NIXES, nix_path
from tests.pace import patience, wait_until

from .server import Sshd, start_sshd

pytestmark = pytest.mark.skipif(shutil.which("ssh") is None, reason="needs OpenSSH's client")


@pytest.fixture(scope="module")
def gate(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    with start_sshd(tmp_path_factory.mktemp("gate")) as server:
        yield server


def configure(folder: Path, text: str) -> Path:
    file = folder / "config"
    file.write_text(text)
    return file


def save_key(path: Path, text: str) -> Path:
    path.write_text(text)
    path.chmod(0o600)
    return path


def entry(gate: Sshd, folder: Path, *more: str) -> list[str]:
    """What the user has of the gate, under an alias, a host key's alias and with a key of its own."""
    (folder / "known").write_text(f"the-gate {gate.host.public}\n")
    save_key(folder / "gate-key", gate.client.private)
    return [
        "Host gate", "HostName localhost", f"Port {gate.port}", f"User {getuser()}", "HostKeyAlias the-gate",
        "IdentitiesOnly yes", f"UserKnownHostsFile {folder}/known", "GlobalKnownHostsFile none", *more,
    ]  # fmt: skip


WAYS_IN = {  # each lets in, by ssh's own rules
    "a key by name": ["IdentityFile {folder}/gate-key"],
    "a key by tokens": ["IdentityFile {folder}/%n-key"],
    "a key by a variable": ["IdentityFile ${{GATE_FOLDER}}/gate-key"],
    "the second of two keys": ["IdentityFile {folder}/wrong", "IdentityFile {folder}/gate-key"],
    "a key that is not there, and one that is": ["IdentityFile {folder}/none", "IdentityFile {folder}/gate-key"],
    "IPv4 only": ["IdentityFile {folder}/gate-key", "AddressFamily inet"],
    "algorithms": [
        "IdentityFile {folder}/gate-key", "HostKeyAlgorithms ssh-ed25519", "Ciphers aes256-ctr", "MACs hmac-sha2-512",
        "KexAlgorithms curve25519-sha256", "Compression yes", "PubkeyAcceptedAlgorithms ssh-ed25519",
    ],
    "what changes nothing": [
        "IdentityFile {folder}/gate-key", "ForwardAgent yes", "ServerAliveInterval 5", "ControlMaster auto",
        "StrictHostKeyChecking no", "PreferredAuthentications publickey,password", "LogLevel QUIET", "SendEnv LANG",
    ],
}  # fmt: skip


@pytest.mark.nix
@pytest.mark.parametrize("way", WAYS_IN)
def test_an_entry_of_the_users_is_a_jump_host_for_all_programs(
    gate: Sshd, sshd: Sshd, tmp_path: Path, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GATE_FOLDER", str(tmp_path))
    save_key(tmp_path / "wrong", new_key_pair().private)
    lines = [line.format(folder=tmp_path) for line in WAYS_IN[way]]
    config = configure(tmp_path, "\n".join(entry(gate, tmp_path, *lines)))
    login = sshd.login(endpoint=Endpoint("::1", sshd.port, getuser(), "gate"), jump_config=config)
    with open_session(login) as session:
        assert session.run("echo far").stdout == "far\n"
    access = through(sshd, tmp_path, config)
    assert run(ssh_argv(access, "echo", "far")).stdout == "far\n"
    (tmp_path / "file").write_text("data")
    run(scp_argv(access, [str(tmp_path / "file")], f":{tmp_path}/copied"))
    assert (tmp_path / "copied").read_text() == "data"
    done = ping(access, tmp_path, NIXES[0])
    assert done.returncode == 0, done.stderr


@pytest.mark.nix
@pytest.mark.parametrize("which", NIXES)
def test_a_compressed_copy_goes_through_the_jump_host(gate: Sshd, sshd: Sshd, tmp_path: Path, which: str) -> None:
    config = configure(tmp_path, "\n".join(entry(gate, tmp_path, f"IdentityFile {tmp_path}/gate-key")))
    access = through(sshd, tmp_path, config)
    (tmp_path / "thing").write_text("thing")
    nix = ["nix", "--extra-experimental-features", "nix-command"]
    there = store_url(access.endpoint, scheme="ssh-ng", root=f"{tmp_path}/there", compress=True)
    environment = {"PATH": nix_path(which), "HOME": str(tmp_path), "NIX_SSHOPTS": nix_sshopts(access)}
    environment["NIX_REMOTE"] = f"local?root={tmp_path}/here"
    (path,) = run([*nix, "store", "add-path", str(tmp_path / "thing")], environment).stdout.split()
    run([*nix, "copy", "--no-check-sigs", "--to", there, path], environment)
    assert (tmp_path / "there" / path[1:]).read_text() == "thing"


def through(sshd: Sshd, folder: Path, config: Path) -> Access:
    known, identity = folder / "ours", save_key(folder / "id", sshd.client.private)
    write_known_hosts(known, {"web": KnownHost((sshd.host.public,), "m-1")})
    access = Access(Endpoint("::1", sshd.port, getuser(), "gate"), known, identity, "m-1")
    replace_file(folder / "ssh_config", config_text(access, [folder / "empty"], resolve_jump("gate", config)))
    return replace(access, config=folder / "ssh_config")


def run(argv: list[str], environment: dict[str, str] | None = None) -> "subprocess.CompletedProcess[str]":
    done = subprocess.run(
        argv, capture_output=True, text=True, timeout=patience(40), env=environment or dict(os.environ), check=False
    )
    assert done.returncode == 0, done.stderr
    return done


def ping(access: Access, folder: Path, which: str) -> "subprocess.CompletedProcess[str]":
    argv = ["nix", "--extra-experimental-features", "nix-command", "store", "ping", "--store"]
    environment = {"PATH": nix_path(which), "HOME": str(folder), "NIX_SSHOPTS": nix_sshopts(access)}
    environment["NIX_REMOTE"] = f"local?root={folder}/store"
    return run([*argv, store_url(access.endpoint)], environment)


def test_a_key_with_a_passphrase_comes_from_the_agent(
    gate: Sshd, sshd: Sshd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As ssh has it with `IdentitiesOnly`: the agent's key of that file, and no other one."""
    config = configure(tmp_path, "\n".join(entry(gate, tmp_path, f"IdentityFile {tmp_path}/gate-key")))
    key = str(tmp_path / "gate-key")
    with start_agent(tmp_path) as socket:
        monkeypatch.setenv("SSH_AUTH_SOCK", socket)
        run(["ssh-add", "-q", str(save_key(tmp_path / "other", new_key_pair().private))])
        run(["ssh-add", "-q", key])
        run(["ssh-keygen", "-q", "-p", "-N", "secret", "-f", key])
        Path(f"{key}.pub").write_text(gate.client.public + "\n")
        login = sshd.login(endpoint=Endpoint("::1", sshd.port, getuser(), "gate"), jump_config=config)
        with open_session(login) as session:
            assert session.run("echo far").stdout == "far\n"
        assert run(ssh_argv(through(sshd, tmp_path, config), "echo", "far")).stdout == "far\n"
    monkeypatch.delenv("SSH_AUTH_SOCK")
    with pytest.raises(SshRefused, match=f"{key} \\(it has a passphrase\\)"):
        open_session(login)


@contextmanager
def start_agent(folder: Path) -> Iterator[str]:
    socket = str(folder / "agent")
    process = subprocess.Popen(["ssh-agent", "-D", "-a", socket], stdout=subprocess.DEVNULL)
    try:
        wait_until(Path(socket).exists)
        yield socket
    finally:
        process.terminate()
        process.wait(patience(5))


@pytest.mark.parametrize(
    ("option", "named"),
    [
        ("ProxyJump other", "proxyjump"),
        ("ProxyCommand nc %h %p", "proxycommand"),
        ("KnownHostsCommand /bin/echo", "knownhostscommand"),
        ("RevokedHostKeys /etc/x", "revokedhostkeys"),
        ("CertificateFile ~/.ssh/x", "certificatefile"),
        ("IdentityAgent /run/agent", "identityagent"),
        ("PubkeyAuthentication no", "pubkeyauthentication"),
        ("PreferredAuthentications password", "preferredauthentications"),
        ("BindAddress 127.0.0.1", "bindaddress"),
        ("BindInterface lo", "bindinterface"),
        ("ProxyUseFdpass yes", "proxyusefdpass"),
        ("RequiredRSASize 4096", "requiredrsasize"),
        ("PKCS11Provider /lib/x.so", "pkcs11provider"),
        ("SecurityKeyProvider /lib/x.so", "securitykeyprovider"),
        ("IdentityFile ~/.ssh/%C", "identityfile"),
    ],
)
def test_what_cannot_be_done_is_refused_by_name(tmp_path: Path, option: str, named: str) -> None:
    config = configure(tmp_path, f"Host gate\n  {option}\n")
    with pytest.raises(SshRefused, match=named):
        resolve(Hop("gate"), config)
    assert resolve(Hop("other.example.org"), config).host == "other.example.org"


def test_what_is_said_in_the_description_goes_before_the_configuration(tmp_path: Path) -> None:
    config = configure(tmp_path, "Host gate\n  Port 2222\n  User them\n")
    (plain,) = resolve_jump("gate", config)
    (said,) = resolve_jump("us@gate:22", config)
    assert (plain.port, plain.user, said.port, said.user) == (2222, "them", 22, "us")


def test_a_broken_configuration_is_said_to_be_so(tmp_path: Path) -> None:
    with pytest.raises(SshRefused, match="does not take its configuration"):
        resolve(Hop("gate"), configure(tmp_path, "Host gate\n  Nonsense yes\n"))


def test_the_family_of_addresses_is_kept(tmp_path: Path, sshd: Sshd) -> None:
    (hop,) = resolve_jump("gate", configure(tmp_path, "Host gate\n  AddressFamily inet6\n"))
    assert hop.family == "inet6" and ("AddressFamily", "inet6") in hop.more
    with pytest.raises(OSError):
        connect_tcp("127.0.0.1", sshd.port, 5, wanted=FAMILIES[hop.family])


def test_every_option_that_ssh_knows_is_judged() -> None:
    """One that a later ssh brings is refused where it is used, and belongs into one of the lists."""
    told = run(["ssh", "-F", "none", "-T", "-G", "gate"]).stdout.splitlines()
    judged = FOLLOWED | WITHOUT_EFFECT | set(HANDED_ON) | set(NOTHING) | REFUSED
    assert {line.split(" ")[0].lower() for line in told} <= judged


REFUSED = {"proxyusefdpass", "requiredrsasize", "securitykeyprovider", "bindaddress", "bindinterface"}
