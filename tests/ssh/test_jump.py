"""Through jump hosts: ours by paramiko, and the very same way by the installed ssh, scp and Nix."""

import subprocess
from collections.abc import Iterator
from dataclasses import replace
from getpass import getuser
from pathlib import Path

import pytest

from nixops_proxmox.errors import HostKeyChanged, SshRefused, SshUnreachable
from nixops_proxmox.model import Endpoint
from nixops_proxmox.reach.race import StopSignal
from nixops_proxmox.ssh.argv import Access, config_text, nix_sshopts, scp_argv, ssh_argv, store_url
from nixops_proxmox.ssh.connect import open_link
from nixops_proxmox.ssh.identity import LoginKeys
from nixops_proxmox.ssh.keys import new_key_pair
from nixops_proxmox.ssh.known_hosts import KnownHost, write_known_hosts
from nixops_proxmox.ssh.login import SshLogin
from nixops_proxmox.ssh.probe import probe_host_key
from nixops_proxmox.ssh.session import open_session
from tests.nixes import NIXES, nix_path
from tests.pace import patience
from tests.ports import free_port

from .server import Sshd, start_sshd


@pytest.fixture(scope="module")
def gate(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    with start_sshd(tmp_path_factory.mktemp("gate")) as server:
        yield server


def known(directory: Path, *gates: Sshd, key: str = "") -> Path:
    """The user's known_hosts, with the jump hosts in it."""
    file = directory / "their_known_hosts"
    write_known_hosts(
        file,
        {
            str(gate.port): KnownHost((key or gate.host.public,), "", (("127.0.0.1", gate.port), ("::1", gate.port)))
            for gate in gates
        },
    )
    return file


def through(target: Sshd, jump: str, gate: Sshd, file: Path) -> SshLogin:
    return target.login(
        endpoint=Endpoint("::1", target.port, getuser(), jump),
        jump_identity=LoginKeys(keys=(gate.client.private,)),
        jump_known_hosts=(file,),
    )


def test_a_session_and_a_probe_go_through_a_jump_host(sshd: Sshd, gate: Sshd, tmp_path: Path) -> None:
    login = through(sshd, f"{getuser()}@127.0.0.1:{gate.port}", gate, known(tmp_path, gate))
    with open_session(login) as session:
        assert session.run("echo $SSH_CONNECTION").stdout.split()[3] == str(sshd.port)
    assert probe_host_key(login, StopSignal())[0] == sshd.host.public


def test_two_jump_hosts_in_a_row(sshd: Sshd, gate: Sshd, tmp_path: Path) -> None:
    with start_sshd(tmp_path) as second:
        (tmp_path / "authorized").write_text(gate.client.public + "\n")
        jump = f"127.0.0.1:{gate.port},[::1]:{second.port}"
        with open_session(through(sshd, jump, gate, known(tmp_path / "k", gate, second))) as session:
            assert session.run("echo far").stdout == "far\n"


def test_a_jump_host_that_nobody_knows_is_not_used(sshd: Sshd, gate: Sshd, tmp_path: Path) -> None:
    login = through(sshd, f"127.0.0.1:{gate.port}", gate, tmp_path / "empty")
    with pytest.raises(SshRefused, match="host key is not in") as caught:
        open_session(login)
    assert "fingerprint" in caught.value.hint


def test_a_jump_host_with_another_key_is_refused(sshd: Sshd, gate: Sshd, tmp_path: Path) -> None:
    login = through(sshd, f"127.0.0.1:{gate.port}", gate, known(tmp_path, gate, key=new_key_pair().public))
    with pytest.raises(HostKeyChanged, match="jump host"):
        open_session(login)


def test_what_the_jump_host_cannot_reach_is_said_to_be_so(sshd: Sshd, gate: Sshd, tmp_path: Path) -> None:
    login = through(sshd, f"127.0.0.1:{gate.port}", gate, known(tmp_path, gate))
    with pytest.raises(SshUnreachable, match="jump host cannot connect"):
        open_session(replace(login, endpoint=replace(login.endpoint, port=free_port())))


def access(target: Sshd, host: str, directory: Path, jump: str = "") -> Access:
    write_known_hosts(directory / "known_hosts", {"web": KnownHost((target.host.public,), "m-1")})
    identity = directory / "id"
    identity.write_text(target.client.private)
    identity.chmod(0o600)
    return Access(Endpoint(host, target.port, getuser(), jump), directory / "known_hosts", identity, "m-1")


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost"])
def test_ssh_and_scp_arrive_by_every_form_of_address(sshd: Sshd, tmp_path: Path, host: str) -> None:
    way = access(sshd, host, tmp_path)
    done = subprocess.run(ssh_argv(way, "echo", "there"), capture_output=True, text=True, timeout=patience(20))
    assert (done.returncode, done.stdout) == (0, "there\n"), done.stderr
    (tmp_path / "a:b").write_text("data")
    argv = scp_argv(way, [str(tmp_path / "a:b")], f":{tmp_path}/copied")
    subprocess.run(argv, capture_output=True, check=True, timeout=patience(20))
    assert (tmp_path / "copied").read_text() == "data"


def test_ssh_refuses_another_host_key_whatever_the_user_wishes(sshd: Sshd, tmp_path: Path) -> None:
    way = replace(access(sshd, "127.0.0.1", tmp_path), options={"StrictHostKeyChecking": "no"})
    write_known_hosts(way.known_hosts, {"web": KnownHost((new_key_pair().public,), "m-1")})
    done = subprocess.run(ssh_argv(way, "true"), capture_output=True, text=True, timeout=patience(20))
    assert done.returncode == 255
    assert "Host key verification failed" in done.stderr


def test_ssh_goes_through_a_jump_host_by_a_configuration_file(sshd: Sshd, gate: Sshd, tmp_path: Path) -> None:
    way = access(sshd, "::1", tmp_path, jump=f"{getuser()}@127.0.0.1:{gate.port}")
    gate_key = tmp_path / "gate key"
    gate_key.write_text(gate.client.private)
    gate_key.chmod(0o600)
    text = config_text(way, [known(tmp_path / "k", gate)])
    # Whoever runs the test has no key that the gate knows: this one stands in for the user's own.
    text = text.replace("Host nixops-proxmox-jump-0\n", f'Host nixops-proxmox-jump-0\n  IdentityFile "{gate_key}"\n')
    config = tmp_path / "config"
    config.write_text(text)
    done = subprocess.run(
        ssh_argv(replace(way, config=config), "echo", "there"), capture_output=True, text=True, timeout=patience(20)
    )
    assert (done.returncode, done.stdout) == (0, "there\n"), done.stderr


@pytest.mark.nix
@pytest.mark.parametrize("scheme", ["ssh", "ssh-ng"])
@pytest.mark.parametrize("which", NIXES)
@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_nix_reaches_a_store_by_our_options_and_url(
    sshd: Sshd, tmp_path: Path, host: str, which: str, scheme: str
) -> None:
    way = access(sshd, host, tmp_path)
    argv = ["nix", "--extra-experimental-features", "nix-command", "store", "ping", "--store"]
    environment = {"PATH": nix_path(which), "HOME": str(tmp_path)}
    environment |= {"NIX_SSHOPTS": nix_sshopts(way), "NIX_REMOTE": f"local?root={tmp_path}/store"}
    done = subprocess.run(
        [*argv, store_url(way.endpoint, scheme=scheme)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=patience(30),
    )
    assert done.returncode == 0, done.stderr


def test_a_probe_that_is_called_off_after_its_jump_host_has_gone_ends_in_peace(
    sshd: Sshd, gate: Sshd, tmp_path: Path
) -> None:
    """The race ends losers that have ended by themselves a moment ago, their jump host's connection first."""
    stop = StopSignal()
    login = through(sshd, f"{getuser()}@127.0.0.1:{gate.port}", gate, known(tmp_path, gate))
    link = open_link(login, stop=stop)
    below = link.below[0]
    below.packetizer.close()  # as seen by whoever sends, an instant before everything is told
    stop.set()
    link.close()
    assert not link.transport.is_active()
