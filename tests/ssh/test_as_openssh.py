"""We believe a jump host if the installed ssh does, on a real sshd, for every form of known_hosts."""

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from time import monotonic

import pytest

from nixops_proxmox.errors import SshError
from nixops_proxmox.ssh.connect import connect_tcp, prove
from nixops_proxmox.ssh.keys import KeyPair, new_key_pair
from nixops_proxmox.ssh.known_hosts import find_host_keys, find_trusted
from nixops_proxmox.ssh.trust import Authority
from tests.pace import patience

from .server import Sshd, start_sshd

needs_ssh = pytest.mark.skipif(shutil.which("ssh-keygen") is None, reason="needs OpenSSH's client")
pytestmark = needs_ssh
A, B = new_key_pair().public, new_key_pair().public


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Sshd, Path]]:
    """One key, that it shows plain or certified, and a second one that is plain."""
    folder = tmp_path_factory.mktemp("ca")
    keygen("-t", "ed25519", "-f", str(folder / "ca"))
    keygen("-t", "ecdsa", "-f", str(folder / "second"))

    def certify(host: KeyPair) -> None:
        (folder / "host.pub").write_text(host.public + "\n")
        keygen("-s", str(folder / "ca"), "-I", "gate", "-h", "-n", "localhost", str(folder / "host.pub"))

    extra = f"HostKey {folder}/second\nHostCertificate {folder}/host-cert.pub"
    with start_sshd(tmp_path_factory.mktemp("gate"), extra=extra, prepare=certify) as server:
        yield server, folder


@pytest.fixture(scope="module")
def certified(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Sshd, Path]]:
    """A server that shows certificates of an authority for `localhost`, and the folder with the authority in it."""
    folder = tmp_path_factory.mktemp("ca")
    keygen("-t", "ed25519", "-f", str(folder / "ca"))
    keygen("-t", "ecdsa", "-f", str(folder / "second"))
    keygen("-s", str(folder / "ca"), "-I", "gate", "-h", "-n", "localhost", str(folder / "second.pub"))
    extra = f"HostKey {folder}/second\nHostCertificate {folder}/second-cert.pub"
    with start_sshd(tmp_path_factory.mktemp("gate"), extra=extra) as server:
        yield server, folder


def keygen(*args: str) -> None:
    subprocess.run(["ssh-keygen", "-q", *([] if "-s" in args else ["-N", ""]), *args], check=True, capture_output=True)


def we_accept(server: Sshd, host: str, file: Path) -> bool:
    trusted = find_trusted(host, server.port, [file])
    if not trusted:
        return False
    sock = connect_tcp(host, server.port, 10)
    try:
        prove(sock, trusted.keys, host, monotonic() + patience(10), authority=Authority(trusted, host)).close()
    except SshError:
        return False
    return True


def openssh_accepts(server: Sshd, host: str, file: Path) -> bool:
    identity = server.directory / "client"
    identity.write_text(server.client.private)
    identity.chmod(0o600)
    options = [
        f"UserKnownHostsFile={file}", "GlobalKnownHostsFile=/dev/null", "StrictHostKeyChecking=yes", "BatchMode=yes",
        "UpdateHostKeys=no", "IdentitiesOnly=yes", "CheckHostIP=no",
    ]  # fmt: skip
    argv = ["ssh", "-F", "none", *(word for option in options for word in ("-o", option)), "-i", str(identity)]
    done = subprocess.run(
        [*argv, "-p", str(server.port), host, "true"], capture_output=True, text=True, timeout=patience(20)
    )
    assert done.returncode == 0 or "Host key verification failed" in done.stderr, done.stderr
    return done.returncode == 0


CASES = {  # known_hosts, with the server's port, its two keys, its authority and a foreign key put in
    "nothing": ("", False),
    "by port": ("[localhost]:{port} {host}", True),
    "by the name without the port": ("localhost {host}", True),
    "another port only": ("[localhost]:1 {host}", False),
    "several keys of one type, the right one last": ("localhost {other}\nlocalhost {host}", True),
    "several keys of one type, the right one first": ("localhost {host}\nlocalhost {other}", True),
    "only another key": ("localhost {other}", False),
    "another key by port, the right one without": ("[localhost]:{port} {other}\nlocalhost {host}", False),
    "wildcards": ("[local*]:* {host}", True),
    "a question mark": ("localhos? {host}", True),
    "one letter too few": ("localhost? {host}", False),
    "brackets are no pattern": ("local[h]ost {host}", False),
    "everything": ("* {host}", True),
    "everything but this": ("*,!localhost,![localhost]:{port} {host}", False),
    "in capitals": ("LOCALHOST {host}", True),
    "revoked": ("localhost {host}\n@revoked localhost {host}", False),
    "revoked for all": ("localhost {host}\n@revoked * {host}", False),
    "revoked for another": ("localhost {host}\n@revoked elsewhere {host}", True),
    "an authority": ("@cert-authority localhost {ca}", True),
    "an authority for all": ("@cert-authority * {ca}", True),
    "an authority of others": ("@cert-authority *.example.org {ca}", False),
    "a foreign authority": ("@cert-authority * {other}", False),
    "an authority and a wrong key": ("@cert-authority * {ca}\nlocalhost {other}", True),
    "a revoked authority": ("@cert-authority * {ca}\n@revoked * {ca}", False),
    "the authority's key as a host's": ("localhost {ca}", False),
    "a certified key that is revoked": ("@cert-authority * {ca}\n@revoked * {second}", False),
    "a marker that is not known": ("@trusted localhost {host}", False),
    "a comment": ("#localhost {host}", False),
    "with a comment after the key": ("localhost {host} root@gate", True),
    "a broken key": ("localhost ssh-ed25519 AAAA", False),
    "a type that does not fit": ("localhost ssh-rsa {blob}", False),
}


MORE = {
    "the second key": "localhost {second}",
    "both keys": "localhost {host}\nlocalhost {second}",
    "the second key, the first one revoked": "localhost {second}\n@revoked localhost {host}",
    "the first key revoked, and known": "localhost {second}\nlocalhost {host}\n@revoked localhost {host}",
    "the second key revoked, the first one known": "localhost {host}\n@revoked localhost {second}",
    "a revoked authority, a known key": "localhost {host}\n@revoked * {ca}",
    "a revoked authority, the second key": "localhost {second}\n@revoked * {ca}",
    "a foreign authority, a known key": "@cert-authority * {other}\nlocalhost {host}",
    "a foreign authority, the second key": "@cert-authority * {other}\nlocalhost {second}",
    "a foreign authority by port, ours without": "@cert-authority [localhost]:{port} {other}\n"
    "@cert-authority localhost {ca}",
    "another key by port, an authority without": "[localhost]:{port} {other}\n@cert-authority localhost {ca}",
    "an authority by port, another key without": "@cert-authority [localhost]:{port} {ca}\nlocalhost {other}",
    "revoked without the port, known by it": "[localhost]:{port} {host}\n@revoked localhost {host}",
    "known without the port, revoked by it": "localhost {host}\n@revoked [localhost]:{port} {host}",
}


def values_of(server: Sshd, folder: Path) -> dict[str, object]:
    return {
        "port": server.port,
        "host": server.host.public,
        "blob": server.host.public.split()[1],
        "second": (folder / "second.pub").read_text().strip(),
        "ca": (folder / "ca.pub").read_text().strip(),
        "other": A,
    }


@pytest.mark.parametrize("hashed", [False, True], ids=["plain", "hashed"])
@pytest.mark.parametrize("case", CASES)
def test_we_accept_what_openssh_accepts(
    certified: tuple[Sshd, Path], sshd: Sshd, tmp_path: Path, case: str, *, hashed: bool
) -> None:
    text, accepted = CASES[case]
    folder = certified[1]
    server = certified[0] if "{ca}" in text else sshd  # a certificate goes before a plain key
    file = tmp_path / "known_hosts"
    file.write_text(text.format(**values_of(server, folder)) + "\n")
    if hashed:
        subprocess.run(["ssh-keygen", "-H", "-f", file], capture_output=True, check=False)
    assert (openssh_accepts(server, "localhost", file), we_accept(server, "localhost", file)) == (accepted, accepted)


@pytest.mark.parametrize("hosts", ["certified", "both"])
@pytest.mark.parametrize("case", [*CASES, *MORE])
def test_a_server_with_certificates_beside_plain_keys_is_judged_as_by_openssh(
    request: pytest.FixtureRequest, tmp_path: Path, case: str, hosts: str
) -> None:
    """Whether it is believed depends on which of them is shown, and that on what known_hosts has."""
    server, folder = request.getfixturevalue(hosts)
    file = tmp_path / "known_hosts"
    file.write_text(
        ({case: text for case, (text, _) in CASES.items()} | MORE)[case].format(**values_of(server, folder))
    )
    assert we_accept(server, "localhost", file) == openssh_accepts(server, "localhost", file)


@pytest.mark.parametrize(
    ("options", "accepted"),
    [
        (("-n", "localhost"), True),
        (("-n", "local*"), False),
        (("-n", "*.example.org"), False),
        (("-n", "LOCALHOST"), False),
        (("-n", "localhost", "-O", "critical:x=y"), False),
        (("-n", "elsewhere"), False),
        (("-n", "elsewhere,localhost"), True),
        (("-n", "localhost", "-V", "20200101:20200102"), False),
        (("-n", "localhost", "-V", "-1d:+1d"), True),
    ],
)
def test_a_certificate_must_fit_the_host_and_the_time(
    certified: tuple[Sshd, Path], tmp_path: Path, options: tuple[str, ...], *, accepted: bool
) -> None:
    _, folder = certified
    keygen("-t", "ed25519", "-f", str(tmp_path / "key"))
    keygen("-s", str(folder / "ca"), "-I", "x", "-h", *options, str(tmp_path / "key.pub"))
    (tmp_path / "sshd").mkdir()
    with start_sshd(
        tmp_path / "sshd", extra=f"HostKey {tmp_path}/key\nHostCertificate {tmp_path}/key-cert.pub"
    ) as server:
        file = tmp_path / "known_hosts"
        file.write_text(f"@cert-authority * {(folder / 'ca.pub').read_text()}")
        assert (openssh_accepts(server, "localhost", file), we_accept(server, "localhost", file)) == (accepted,) * 2


@pytest.mark.parametrize(
    ("signature", "accepted"), [("ssh-rsa", False), ("rsa-sha2-256", True), ("rsa-sha2-512", True)]
)
def test_an_authority_that_signs_by_sha1_is_not_believed(tmp_path: Path, signature: str, *, accepted: bool) -> None:
    keygen("-t", "rsa", "-b", "2048", "-f", str(tmp_path / "ca"))
    keygen("-t", "ed25519", "-f", str(tmp_path / "key"))
    keygen("-s", str(tmp_path / "ca"), "-t", signature, "-I", "x", "-h", "-n", "localhost", str(tmp_path / "key.pub"))
    (tmp_path / "sshd").mkdir()
    extra = f"HostKey {tmp_path}/key\nHostCertificate {tmp_path}/key-cert.pub\nCASignatureAlgorithms +ssh-rsa"
    with start_sshd(tmp_path / "sshd", extra=extra) as server:
        file = tmp_path / "known_hosts"
        file.write_text(f"@cert-authority * {(tmp_path / 'ca.pub').read_text()}")
        assert (openssh_accepts(server, "localhost", file), we_accept(server, "localhost", file)) == (accepted,) * 2


@pytest.mark.parametrize("name", ["gate", "gate.example.org", "10.0.0.1", "fd77::5", "GATE", "stranger"])
@pytest.mark.parametrize("port", [22, 2222])
@pytest.mark.parametrize("hashed", [False, True])
def test_lookups_are_those_of_ssh_keygen(tmp_path: Path, name: str, port: int, *, hashed: bool) -> None:
    file = tmp_path / "known_hosts"
    lines = [
        f"gate {A}", f"[gate]:2222,10.0.0.1 {B}", f"*.example.org,!bad.example.org {A}", f"fd77::5 {A}",
        f"[fd77::5]:2222 {B}", f"10.0.0.? {A}", f"@revoked other {A}",
    ]  # fmt: skip
    file.write_text("\n".join(lines) + "\n")
    if hashed:
        subprocess.run(["ssh-keygen", "-H", "-f", file], capture_output=True, check=False)
    wanted = f"[{name}]:{port}" if port != 22 else name
    done = subprocess.run(["ssh-keygen", "-F", wanted.lower(), "-f", file], capture_output=True, text=True, check=False)
    found = {" ".join(line.split()[1:3]) for line in done.stdout.splitlines() if line and line[0] not in "#@"}
    if not found and port != 22:  # ssh itself asks again without the port, which ssh-keygen does not
        return
    assert set(find_host_keys(name, port, [file])) == found
