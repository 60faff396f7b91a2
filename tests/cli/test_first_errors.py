"""What goes wrong in the first hour, and where each message leads: all of it, in one table, against a lab."""

import json
import socket
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path

import pytest

from nixops_proxmox.cli import VERBS, main
from nixops_proxmox.errors import AgentSilent
from nixops_proxmox.guest.agent import Agent
from nixops_proxmox.lab.faults import Fault
from nixops_proxmox.lab.testing import RunningLab, start_lab
from nixops_proxmox.pve.api.connection import connect
from nixops_proxmox.pve.wire.profiles import parse_profile
from tests.cli.test_init import enter_empty_folder
from tests.cli.test_verbs import Done
from tests.pve.stub import Reply, Stub


@pytest.fixture(scope="module")
def lab() -> Iterator[RunningLab]:
    """With a token that may do nothing, and without an installer."""
    with start_lab() as running:
        yield running


@dataclass
class Newcomer:
    """An empty folder, an empty home, and what was done wrong so far."""

    folder: Path
    home: Path
    lab: RunningLab
    around: pytest.MonkeyPatch
    notes: dict[str, str] = field(default_factory=dict)

    def write(self, name: str, text: str) -> None:
        (self.folder / name).write_text(text)

    def profile(self, **more: str) -> None:
        values = {"url": self.lab.url, "fingerprint": self.lab.fingerprint, "token": self.lab.token} | more
        file = self.home / "config" / "nixops-proxmox" / "profiles.toml"
        file.parent.mkdir(parents=True)
        file.touch(mode=0o600)
        file.write_text(
            "[default]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in values.items() if value)
        )

    def run(self, *words: str, stdin: str = "") -> Done:
        out, err = StringIO(), StringIO()
        for name, value in {"sys.stdin": StringIO(stdin), "sys.stdout": out, "sys.stderr": err}.items():
            self.around.setattr(name, value)
        return Done(main(words), out.getvalue(), err.getvalue())


@pytest.fixture
def newcomer(tmp_path: Path, lab: RunningLab, monkeypatch: pytest.MonkeyPatch) -> Newcomer:
    folder = enter_empty_folder(tmp_path, monkeypatch)
    return Newcomer(folder, tmp_path, lab, monkeypatch)


def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def address(url: str) -> Callable[[Newcomer], Done]:
    return lambda here: here.run("init", "--url", url)


def another_port(here: Newcomer) -> Done:
    return here.run("init", "--url", f"https://127.0.0.1:{closed_port()}")


def self_signed(here: Newcomer) -> Done:
    here.profile(fingerprint="")
    return here.run("doctor")


def wrong_secret(here: Newcomer) -> Done:
    here.profile(token=here.lab.token.partition("=")[0] + "=5ec2e700-0000-4000-8000-000000000000")
    return here.run("doctor")


def new_token(here: Newcomer, name: str) -> str:
    """With rights to nothing. Returns its secret."""
    root = {"url": here.lab.url, "fingerprint": here.lab.fingerprint, "username": "root@pam"}
    with closing(connect(parse_profile("root", root | {"password": here.lab.root_password}))) as client:
        client.accounts.add_user("poor@pve", "")
        return client.accounts.add_token("poor@pve", name, "")


def no_rights(here: Newcomer) -> Done:
    secret = new_token(here, "none")
    words = ("--url", here.lab.url, "--fingerprint", here.lab.fingerprint, "--token-id", "poor@pve!none")
    return here.run("init", *words, stdin=f"{secret}\n")


def no_installer(here: Newcomer) -> Done:
    here.profile()
    return here.run("init")


def no_nixpkgs(here: Newcomer) -> Done:
    here.profile()
    here.write("network.nix", "{ web.services.nginx.enable = true; }")
    return here.run("plan")


def a_package(here: Newcomer) -> Done:
    here.profile()
    here.write("default.nix", '{ type = "derivation"; name = "hello"; }')
    return here.run("plan", "--file", ".")


def empty_network(here: Newcomer) -> Done:
    here.profile()
    here.write("network.nix", "{ }")
    return here.run("plan")


MACHINE = """{
  disks = [ { storage = "local-lvm"; size = "2G"; } ];
  network = [ { bridge = "vmbr0"; } ];
  install.iso = "local:iso/x.iso";
}"""


def no_profile(here: Newcomer) -> Done:
    here.write("network.nix", f"{{ web.deployment.proxmox = {MACHINE}; }}")
    return here.run("plan")


def no_nix(here: Newcomer) -> Done:
    here.profile()
    here.write("network.nix", "{ }")
    here.around.setenv("PATH", str(here.folder))
    return here.run("plan")


#    what is wrong             what is done                                       says                     and leads to
WRONG: dict[str, tuple[Callable[[Newcomer], Done], str, str]] = {
    "a name of nobody": (address("https://pve1.nowhere.invalid"), "there is no host of that name", "IP address"),
    "http": (address("http://pve1:8006"), "PVE needs https", "https://pve1.example.org:8006"),
    "another port": (another_port, "nothing listens on that port", "port 8006"),
    "nothing trusts it": (self_signed, "could not prove its identity", "`nixops-proxmox init` shows and pins it"),
    "a wrong secret": (wrong_secret, "Authentication failed", "`nixops-proxmox init` makes a new one"),
    "a token without rights": (no_rights, "we see no storage", "pveum acl modify"),
    "no installer": (no_installer, "is on no node that we see", "`nixops-proxmox iso upload`"),
    "no nixpkgs": (no_nixpkgs, "there is no nixpkgs", "network.nixpkgs = fetchTarball"),
    "a default.nix of a package": (a_package, "is a package, and no network", "`nixops-proxmox init` writes one"),
    "an empty network": (empty_network, "describes no machines", "all attributes but `network`"),
    "no profile": (no_profile, "there is no profile 'default'", "`nixops-proxmox init` writes one"),
    "no Nix": (no_nix, "there is no Nix on this machine", "apt install nix-bin"),
}  # fmt: skip


@pytest.mark.nix
@pytest.mark.parametrize("wrong", WRONG)
def test_what_is_wrong_is_said_and_leads_on(newcomer: Newcomer, wrong: str) -> None:
    do, says, leads = WRONG[wrong]
    done = do(newcomer)
    told = done.out + done.err
    assert says in told, told
    assert leads in told, told
    assert "Traceback" not in told and "defect" not in told
    assert (done.status == 0) == (wrong in ("an empty network", "no installer"))


def test_another_server_is_no_pve(newcomer: Newcomer, stub: Stub) -> None:
    stub.answer = lambda _asked: Reply(body=b"<html>Welcome</html>")
    done = newcomer.run("init", "--url", stub.url)
    assert done.status == 2 and "is no PVE" in done.err and "port 8006" in done.err


def test_a_cluster_without_bridges_says_where_to_make_one(newcomer: Newcomer) -> None:
    with start_lab() as lab:
        lab.cluster.bridges.clear()
        newcomer.lab = lab
        newcomer.profile()
        done = newcomer.run("init")
    assert done.status == 2 and "we see no bridge" in done.err and "Linux Bridge" in done.err


def test_a_system_without_an_agent_leads_to_it(lab: RunningLab) -> None:
    client = connect(parse_profile("lab", {"url": lab.url, "fingerprint": lab.fingerprint, "token": lab.token}))
    upid = client.create_vm("pve1", {"vmid": 100, "agent": "1", "memory": 512})
    lab.settle()
    client.start_vm("pve1", 100)
    lab.settle()
    lab.faults.add(Fault("agent_silent", path="/agent", times=0))
    with closing(client), pytest.raises(AgentSilent) as silent:
        Agent(client, "pve1", 100).wait_for_agent(0.3)
    lab.faults.clear()
    assert upid and "no agent service answered" in silent.value.message
    assert "qemu-guest-agent" in silent.value.hint and 'install.identity = "cloud-init"' in silent.value.hint


NEED_A_NETWORK = (
    "deploy",
    "plan",
    "status",
    "history",
    "check",
    "recover",
    "start",
    "stop",
    "reboot",
    "doctor",
    "destroy",
)


@pytest.mark.parametrize("verb", NEED_A_NETWORK)
def test_without_a_network_every_verb_says_what_it_looked_for(newcomer: Newcomer, verb: str) -> None:
    newcomer.profile()
    assert verb in VERBS
    done = newcomer.run(verb)
    told = done.out + done.err
    assert f"none of network.nix, nixops.nix, flake.nix is in {newcomer.folder}" in told, told
    assert "`nixops-proxmox init` writes" in told
