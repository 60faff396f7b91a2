"""Without a privilege of the table, PVE refuses what the table says it is for; with all of them, it does not."""

from collections.abc import Callable, Iterator, Mapping

import pytest

from nixops_proxmox.errors import DeployError, NotAuthenticated, PermissionDenied
from nixops_proxmox.lab.access import Realm, User
from nixops_proxmox.model import Level, Machine
from nixops_proxmox.pve.api.connection import connect
from nixops_proxmox.pve.api.versions import parse_release
from nixops_proxmox.pve.cluster.doctor import examine
from nixops_proxmox.pve.cluster.hypervisor import PveHypervisor
from nixops_proxmox.pve.cluster.permissions import needs_of
from nixops_proxmox.pve.wire.profiles import parse_profile
from nixops_proxmox.spec import Cpu
from tests.contract.clerk import Clerk
from tests.contract.client_bench import Bench, bare, start_bench

Act = Callable[[PveHypervisor, Bench, Machine], object]


def create(clerk: PveHypervisor, bench: Bench, machine: Machine) -> None:
    del machine
    made = bench.machine(name="other")
    clerk.create_vm(bare(name="other", cpu=Cpu(cores=2)), made, bench.note)


def on_the_vm(act: Callable[[PveHypervisor, str, int], object]) -> Act:
    def do(clerk: PveHypervisor, bench: Bench, machine: Machine) -> object:
        del bench
        assert clerk.find_vm(machine.facts) is not None  # the client touches only what it has seen to be ours
        return act(clerk, machine.facts.node, machine.facts.vmid)

    return do


CREATED = ("VM.Allocate", *(f"VM.Config.{name}" for name in ("CPU", "Disk", "HWType", "Memory", "Network", "Options")))
ACTS: Mapping[str, Act] = {
    **dict.fromkeys(CREATED, create),
    "Datastore.AllocateSpace": create,
    "SDN.Use": create,
    "VM.PowerMgmt": on_the_vm(lambda clerk, node, vmid: clerk.client.start_vm(node, vmid)),
    "VM.Console": on_the_vm(lambda clerk, node, vmid: clerk.client.open_display(node, vmid)),
    "VM.Snapshot": on_the_vm(lambda clerk, node, vmid: clerk.client.create_snapshot(node, vmid, "one")),
    "VM.Migrate": on_the_vm(lambda clerk, node, vmid: clerk.client.migrate_vm(node, vmid, "pve2")),
    "VM.Backup": on_the_vm(lambda clerk, node, vmid: clerk.client.back_up(node, vmid, "local")),
    "VM.Monitor": on_the_vm(lambda clerk, node, vmid: clerk.client.agent_ping(node, vmid)),
    "VM.GuestAgent.Unrestricted": on_the_vm(lambda clerk, node, vmid: clerk.client.agent_exec(node, vmid, ["true"])),
}
# What is not refused, but not shown; `doctor` names these (test_doctor_rights). An empty CD drive needs no right.
SEEN = {"VM.Audit", "Datastore.Audit", "Sys.Audit", "VM.Config.CDROM"}


@pytest.fixture
def bench(request: pytest.FixtureRequest) -> Iterator[Bench]:
    with start_bench(request.param) as made:
        yield made


@pytest.mark.parametrize(
    "bench",
    [pytest.param("7.4", marks=pytest.mark.weekly), "8.4", pytest.param("9.1", marks=pytest.mark.weekly)],
    indirect=True,
)
def test_without_a_privilege_pve_refuses_what_it_is_for(bench: Bench) -> None:
    release = parse_release(bench.lab.cluster.release.version)
    needed = sorted({need.privileges[0] for need in needs_of(bare(), release)})
    assert set(needed) <= set(ACTS) | SEEN
    machine = bench.created()
    wrong = []
    for number, lacking in enumerate(name for name in needed if name in ACTS):
        clerk = Clerk(bench, {"/": [name for name in needed if name != lacking]}, name=f"clerk{number}@pve")
        told = refusal(ACTS[lacking], clerk.hypervisor, bench, machine)
        if not isinstance(told, PermissionDenied) or lacking not in f"{told.message} {told.privileges}":
            wrong.append((lacking, told))
    assert wrong == [], wrong
    everything = Clerk(bench, {"/": needed}, name="everything@pve")
    for act in dict.fromkeys(ACTS[name] for name in needed if name in ACTS):
        assert not isinstance(refusal(act, everything.hypervisor, bench, machine), PermissionDenied)


def refusal(act: Act, clerk: PveHypervisor, bench: Bench, machine: Machine) -> DeployError | None:
    try:
        act(clerk, bench, machine)
    except DeployError as error:
        return error
    return None


OTHERS = {"ldap": "corp-ldap", "ad": "windows.example", "openid": "sso"}  # realms by their type: their names are free


@pytest.mark.parametrize("kind", OTHERS)
@pytest.mark.parametrize("bench", ["8.4"], indirect=True)
def test_a_user_of_another_realm_with_dots_and_an_at_sign_and_her_token_are_let_in(bench: Bench, kind: str) -> None:
    """What `doctor` says to type grants the token exactly what is missing, and the profile logs in by it."""
    who = f"jane.doe@corp.example@{OTHERS[kind]}"
    bench.change(lambda: bench.lab.cluster.access.realms.update({OTHERS[kind]: Realm(kind, "corporate")}))
    root = bench.another(username="root@pam", password=bench.lab.root_password).client
    root._ask("POST", "/access/users", {"userid": who})
    secret = root._ask("POST", "/access/users/{userid}/token/{tokenid}", userid=who, tokenid="deploy")["value"]
    profile = parse_profile(
        "corp", {"endpoint": bench.lab.url, "token": f"{who}!deploy={secret}", "fingerprint": bench.lab.fingerprint}
    )
    client = connect(profile)
    bench.made.append(client)
    typist = Clerk(bench, {})
    found = examine(client, profile, [bare()])
    typist.commands = "\n".join(finding.hint for finding in found if "pveum acl" in finding.hint)
    assert f"--tokens '{who}!deploy'" in typist.commands and f"--users '{who}'" in typist.commands
    typist.follow()
    assert [one.text for one in examine(client, profile, [bare()]) if one.level is Level.PROBLEM] == []
    bench.hypervisor = PveHypervisor(client, clock=bench.now, sleep=bench.sleep)
    bench.created()


@pytest.mark.parametrize("kind", OTHERS)
@pytest.mark.parametrize("bench", ["9.1"], indirect=True)
def test_a_user_of_another_realm_logs_in_by_password_where_the_realm_has_any(bench: Bench, kind: str) -> None:
    who, access = f"jane.doe@corp.example@{OTHERS[kind]}", bench.lab.cluster.access
    bench.change(lambda: access.realms.update({OTHERS[kind]: Realm(kind)}))
    bench.change(lambda: access.users.update({who: User(who, "secret-1")}))
    if kind == "openid":
        with pytest.raises(NotAuthenticated):
            bench.another(username=who, password="secret-1").client.get_version()
    else:
        found = bench.another(username=who, password="secret-1").client.get_version()
        assert str(found).startswith("9.1")
