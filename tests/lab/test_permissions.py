"""Who may do what, by user, token, role, path, pool and release."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from nixops_proxmox.lab.access import User
from nixops_proxmox.lab.permissions import Entry, Permissions
from nixops_proxmox.lab.testing import RunningLab, start_lab
from tests.lab.http import DISK, QEMU, Client

ROLES = {"Admin": frozenset({"A", "B"}), "Reader": frozenset({"A"}), "NoAccess": frozenset()}


def engine(*entries: Entry, separated: bool = False, pools: dict[str, str] | None = None) -> Permissions:
    return Permissions(
        ROLES, list(entries), {"staff": {"u@pve"}}, lambda _: separated, lambda path: (pools or {}).get(path)
    )


@pytest.mark.parametrize(
    ("permissions", "path", "expected"),
    [
        (engine(Entry("/", "user", "u@pve", "Admin")), "/vms/1", {"A", "B"}),
        (engine(Entry("/", "user", "u@pve", "Admin", propagate=False)), "/vms/1", set()),
        (engine(Entry("/", "user", "u@pve", "Admin", propagate=False)), "/", {"A", "B"}),
        (engine(Entry("/", "user", "u@pve", "Admin"), Entry("/vms", "user", "u@pve", "Reader")), "/vms/1", {"A"}),
        (engine(Entry("/", "user", "u@pve", "Admin"), Entry("/vms/1", "user", "u@pve", "NoAccess")), "/vms/1", set()),
        (engine(Entry("/", "group", "staff", "Admin")), "/vms/1", {"A", "B"}),
        (engine(Entry("/", "group", "staff", "Admin"), Entry("/", "user", "u@pve", "Reader")), "/vms/1", {"A"}),
        (engine(Entry("/pool/p", "user", "u@pve", "Reader"), pools={"/vms/1": "p"}), "/vms/1", {"A"}),
        (engine(Entry("/pool/p", "user", "u@pve", "Reader"), pools={"/vms/1": "p"}), "/vms/2", set()),
    ],
)
def test_the_deepest_entry_wins_and_pools_add(permissions: Permissions, path: str, expected: set[str]) -> None:
    assert set(permissions.privileges("u@pve", path)) == expected


def test_a_separated_token_has_the_intersection() -> None:
    permissions = engine(Entry("/", "user", "u@pve", "Reader"), Entry("/", "token", "u@pve!t", "Admin"), separated=True)
    assert set(permissions.privileges("u@pve!t", "/vms/1")) == {"A"}
    assert set(engine(Entry("/", "user", "u@pve", "Admin"), separated=True).privileges("u@pve!t", "/vms/1")) == set()
    assert set(engine(Entry("/", "user", "u@pve", "Admin")).privileges("u@pve!t", "/vms/1")) == {"A", "B"}


@contextmanager
def as_user(lab: RunningLab, *grants: tuple[str, str]) -> Iterator[Client]:
    """A client of a new user with these (path, comma list of privileges)."""
    access = lab.cluster.access
    access.users["u@pve"] = User("u@pve")
    for number, (path, names) in enumerate(grants):
        access.permissions.roles[f"R{number}"] = frozenset(names.split(","))
        access.permissions.entries.append(Entry(path, "user", "u@pve", f"R{number}"))
    secret = access.add_token("u@pve", "t", privsep=False)
    with Client(lab, {"Authorization": f"PVEAPIToken=u@pve!t={secret}"}) as client:
        yield client


def test_create_needs_space_on_the_storage_and_the_bridge(lab: RunningLab) -> None:
    config = "VM.Allocate,VM.Config.Options,VM.Config.Memory,VM.Config.Network"
    with as_user(lab, ("/vms", config)) as client:
        assert (
            client.call("POST", QEMU, {"vmid": 100, **DISK}).reason
            == "Permission check failed (/storage/local-lvm, Datastore.AllocateSpace)"
        )
    with as_user(lab, ("/vms", config), ("/storage", "Datastore.AllocateSpace")) as client:
        assert (
            client.call("POST", QEMU, {"vmid": 100, **DISK}).reason
            == "Permission check failed (/sdn/zones/localnetwork/vmbr0, SDN.Use)"
        )
    with as_user(lab, ("/vms", config), ("/storage", "Datastore.AllocateSpace"), ("/sdn", "SDN.Use")) as client:
        assert client.call("POST", QEMU, {"vmid": 100, **DISK}).status == 200


def test_a_pool_grant_is_enough_to_create_in_it(lab: RunningLab, api: Client) -> None:
    api.call("POST", "/pools", {"poolid": "mine"})
    with as_user(lab, ("/pool/mine", "VM.Allocate,VM.Audit,VM.Config.Memory")) as client:
        assert client.call("POST", QEMU, {"vmid": 100, "memory": 512}).reason == "Permission check failed"
        assert client.call("POST", QEMU, {"vmid": 100, "memory": 512, "pool": "mine"}).status == 200
        lab.settle()
        assert client.get(f"{QEMU}/100/config")["memory"] == "512"
        assert [vm["vmid"] for vm in client.get("/cluster/resources", type="vm")] == [100]


@pytest.mark.parametrize(("version", "privilege"), [("8.4", "VM.Monitor"), ("9.1", "VM.GuestAgent.Unrestricted")])
def test_the_agent_needs_another_privilege_since_9(version: str, privilege: str) -> None:
    with start_lab(version=version) as lab, Client(lab) as api:
        api.task("POST", QEMU, {"vmid": 100, **DISK})
        api.task("POST", f"{QEMU}/100/status/start")
        with as_user(lab, ("/vms", "VM.Audit")) as client:
            answer = client.call("POST", f"{QEMU}/100/agent/exec", {"command": "/bin/true"})
            assert answer.reason == f"Permission check failed (/vms/100, {privilege})"
        with as_user(lab, ("/vms", privilege)) as client:
            assert client.call("POST", f"{QEMU}/100/agent/exec", {"command": "/bin/true"}).status == 200


def test_only_root_with_a_ticket_may_set_what_only_root_may(lab: RunningLab, api: Client, vm: int) -> None:
    assert api.call("PUT", f"{QEMU}/{vm}/config", {"args": "-x"}).reason == "only root can set 'args' config"
    with Client(lab, {}) as client:
        session = client.call("POST", "/access/ticket", {"username": "root@pam", "password": lab.root_password}).data
    cookie = {"Cookie": f"PVEAuthCookie={session['ticket']}", "CSRFPreventionToken": session["CSRFPreventionToken"]}
    with Client(lab, cookie) as root:
        assert root.call("PUT", f"{QEMU}/{vm}/config", {"args": "-x"}).status == 200
        assert root.call("PUT", f"{QEMU}/{vm}/config", {"lock": "backup"}).status == 200
        assert root.call("PUT", f"{QEMU}/{vm}/config", {"delete": "lock", "skiplock": 1}).status == 200


def test_a_token_sees_its_own_tasks_only(lab: RunningLab, api: Client, vm: int) -> None:
    with as_user(lab, ("/vms", "VM.Audit")) as client:
        assert client.get("/nodes/pve1/tasks") == []
        upid = api.get("/nodes/pve1/tasks")[0]["upid"]
        assert (
            client.call("GET", f"/nodes/pve1/tasks/{upid}/status").reason
            == "Permission check failed (/nodes/pve1, Sys.Audit)"
        )


def test_roles_are_made_of_privileges_that_the_release_knows() -> None:
    with start_lab(version="9.1") as lab, Client(lab) as api:
        wrong = api.call("POST", "/access/roles", {"roleid": "Tool", "privs": "VM.Monitor"})
        assert wrong.json["errors"] == {"privs": "invalid format - invalid privilege 'VM.Monitor'\n"}
        assert api.call("POST", "/access/roles", {"roleid": "Tool", "privs": "VM.GuestAgent.Audit"}).status == 200
