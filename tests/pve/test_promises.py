"""Promises of the client that no other test looks at: whose a VM is, what is believed, tickets, promised room."""

import threading
from collections.abc import Iterator
from typing import Any

import pytest

from nixops_proxmox.errors import (
    NoPlace,
    NotAuthenticated,
    NotFound,
    PermissionDenied,
    PveOutcomeUnknown,
    PveUnreachable,
    VmidTaken,
)
from nixops_proxmox.model import Facts, Power
from nixops_proxmox.pve.api.client import PveClient
from nixops_proxmox.pve.api.tasks import PATIENCE, Succeeded, TaskWaiter
from nixops_proxmox.pve.cluster.placement import LAG
from nixops_proxmox.pve.cluster.vm_finder import TRUST
from nixops_proxmox.pve.wire.calls import Call
from nixops_proxmox.pve.wire.login import RENEW_AGE, TicketLogin
from nixops_proxmox.spec.serials import derived_serial
from tests.pace import patience
from tests.pve import scripted
from tests.pve.scripted import CONFIG, CREATE, FACTS, PENDING, RESOURCES, START, STATUS, STRANGER, TASKS, Scripted
from tests.pve.specs import UUID, machine, spec

# Whose it is, and how it is


def test_a_container_with_our_vmid_is_nothing_of_ours() -> None:
    cluster = Scripted(type="lxc", status="running")
    cluster.answers |= {PENDING: scripted.not_there, CONFIG: scripted.not_there}
    assert cluster.hypervisor().find_vm(FACTS) is None
    assert cluster.asked == [RESOURCES]


@pytest.mark.parametrize("elsewhere", [False, True], ids=["where we think", "elsewhere"])
def test_a_guest_that_is_in_no_list_and_whose_vmid_is_taken_is_hidden_and_not_gone(elsewhere: bool) -> None:
    cluster = Scripted()
    cluster.answers |= {RESOURCES: [scripted.node()], "GET /cluster/nextid": VmidTaken("VM 101 already exists")}
    if elsewhere:
        cluster.answers[CONFIG] = scripted.not_there
    with pytest.raises(PermissionDenied, match="we may not see it") as refused:
        cluster.hypervisor().find_vm(FACTS)
    assert refused.value.privileges == ("VM.Audit",)


@pytest.mark.parametrize("ours", [UUID, UUID.upper()])
@pytest.mark.parametrize("theirs", [UUID, UUID.upper()])
def test_a_uuid_is_the_same_in_capitals(ours: str, theirs: str) -> None:
    cluster = Scripted()
    cluster.answers[PENDING] = scripted.configuration(theirs)
    facts = Facts(uuid=ours, vmid=101, node="pve1")
    sight = cluster.sight()
    assert sight.find(facts) is not None
    assert sight.node_of(facts) == "pve1"
    sight.prove("pve1", 101)


def test_a_look_at_one_machine_says_nothing_of_another_with_the_same_vmid() -> None:
    sight = Scripted().sight()
    assert sight.node_of(FACTS) == "pve1"
    with pytest.raises(NotFound, match="our mark"):
        sight.node_of(Facts(uuid=STRANGER, vmid=101, node="pve1"))


def test_stopped_in_the_clusters_list_is_looked_at_for_it_may_be_old() -> None:
    cluster = Scripted(status="stopped")
    cluster.answers[STATUS] = {"status": "running"}
    vm = cluster.hypervisor().find_vm(FACTS)
    assert vm is not None and vm.power is Power.RUNNING
    assert cluster.count(STATUS) == 1


def test_a_node_is_believed_for_two_minutes_and_no_longer() -> None:
    cluster = Scripted()
    sight = cluster.sight()
    assert sight.node_of(FACTS) == "pve1"
    asked = len(cluster.asked)
    cluster.sleep(TRUST - 1)
    assert sight.node_of(FACTS) == "pve1" and len(cluster.asked) == asked
    cluster.answers[RESOURCES] = [scripted.node("pve2"), scripted.guest(node="pve2")]
    cluster.sleep(2)
    assert sight.node_of(FACTS) == "pve2"
    assert TRUST == 120


def test_what_we_did_is_believed_only_until_the_clusters_figures_show_it() -> None:
    cluster = Scripted(status="running")
    sight = cluster.sight()
    sight.learn(FACTS, "pve1", Power.STOPPED)
    cluster.sleep(LAG - 1)
    vm = sight.find(FACTS)
    assert vm is not None and vm.power is Power.STOPPED, "the list is older than what we did"
    cluster.sleep(LAG + 1)
    vm = sight.find(FACTS)
    assert vm is not None and vm.power is Power.RUNNING, "somebody has started it since"


def test_every_disk_of_every_machine_has_a_serial_of_its_own() -> None:
    slots = [f"{bus}{number}" for bus in ("scsi", "virtio", "sata", "ide") for number in range(4)]
    serials = {derived_serial(uuid, slot) for uuid in (UUID, STRANGER) for slot in slots}
    assert len(serials) == 2 * len(slots)
    assert all(len(serial) == 16 for serial in serials)


# Lost answers: a task that is found in their stead may be somebody else's


def lost(_call: Call) -> Exception:
    return PveOutcomeUnknown("the answer was lost")


def test_a_create_whose_answer_was_lost_is_not_believed_to_be_somebody_elses() -> None:
    cluster = Scripted()
    cluster.answers |= {
        CREATE: lost,
        TASKS: [scripted.listed("qmcreate")],
        PENDING: scripted.configuration(STRANGER),
        "GET /cluster/nextid": VmidTaken("VM 101 already exists"),
    }
    with pytest.raises(VmidTaken, match="somebody else"):
        cluster.hypervisor().create_vm(spec(), machine(), lambda _upid: None)
    assert cluster.count(CREATE) == 1


def test_a_start_whose_answer_was_lost_is_not_believed_to_be_an_earlier_one() -> None:
    cluster = Scripted()
    noted: list[str] = []

    def start(_call: Call) -> Any:
        if cluster.count(START) == 1:
            return PveOutcomeUnknown("the request was lost")
        cluster.answers[STATUS] = {"status": "running"}
        return scripted.upid("qmstart", 2)

    cluster.answers |= {START: start, TASKS: [scripted.listed("qmstart", 1)]}
    cluster.hypervisor().start_vm(FACTS, noted.append)
    assert noted == [scripted.upid("qmstart", 1), scripted.upid("qmstart", 2)]


# Waiting


def test_troubles_that_passed_do_not_add_up() -> None:
    """A wait of hours meets many: only those in a row end it."""
    cluster = Scripted()
    running: dict[str, Any] = {"status": "running"}
    spell: list[Any] = [*[PveUnreachable("no route")] * 20, running]
    coming: Iterator[Any] = iter([*spell * 4, {"status": "stopped", "exitstatus": "OK"}])
    cluster.answers[scripted.TASK] = lambda _call: next(coming)
    began = cluster.now
    waiter = TaskWaiter(PveClient(cluster), clock=lambda: cluster.now, sleep=cluster.sleep)
    assert waiter.wait(scripted.upid("qmclone")) == Succeeded()
    assert cluster.now - began > 2 * PATIENCE


# Tickets


class Realm:
    """Answers logins with tickets that are numbered, and have a percent sign and an at sign in them as PVE's do."""

    def __init__(self) -> None:
        self.now, self.asked, self.refuse = 0.0, list[dict[str, Any]](), set[str]()

    def __call__(self, call: Call) -> Any:
        self.asked.append(dict(call.params))
        if str(call.params["password"]) in self.refuse:
            raise NotAuthenticated("authentication failure")
        ticket = f"PVE:clerk@pve:{len(self.asked)}%3D::x=="
        return {"ticket": ticket, "CSRFPreventionToken": f"csrf-{len(self.asked)}"}

    def login(self) -> TicketLogin:
        return TicketLogin("clerk@pve", "password-1", self, clock=lambda: self.now)


def test_a_ticket_is_renewed_before_it_is_too_old_with_itself_as_the_password() -> None:
    realm = Realm()
    login = realm.login()
    first = login.headers("GET")
    realm.now = RENEW_AGE - 1
    assert login.headers("GET") == first and len(realm.asked) == 1
    realm.now = RENEW_AGE + 1
    assert login.headers("GET") != first
    assert [asked["password"] for asked in realm.asked] == ["password-1", "PVE:clerk@pve:1%3D::x=="]
    realm.now += RENEW_AGE - 1
    login.headers("GET")
    assert len(realm.asked) == 2, "a renewed ticket is as young as a new one"
    assert 2 * RENEW_AGE <= 7200, "PVE's tickets live for two hours"


def test_a_ticket_that_cannot_be_renewed_is_replaced_by_the_password() -> None:
    realm = Realm()
    login = realm.login()
    login.headers("GET")
    realm.refuse = {"PVE:clerk@pve:1%3D::x=="}
    realm.now = RENEW_AGE + 1
    login.headers("GET")
    assert realm.asked[-1]["password"] == "password-1"


def test_a_percent_sign_in_a_ticket_is_escaped_for_the_server_unescapes_cookies() -> None:
    cookie = Realm().login().headers("GET")["Cookie"]
    assert cookie == "PVEAuthCookie=PVE:clerk@pve:1%253D::x=="


def test_a_refused_ticket_is_thrown_away_unless_another_thread_has_a_new_one() -> None:
    realm = Realm()
    login = realm.login()
    old = login.headers("GET")
    assert login.renew(old)
    new = login.headers("GET")
    assert new != old and len(realm.asked) == 2
    assert login.renew(old), "it is worth another try, with the ticket that is there already"
    assert login.headers("GET") == new and len(realm.asked) == 2


def test_what_changes_something_has_the_token_against_forgery() -> None:
    login = Realm().login()
    assert "CSRFPreventionToken" not in login.headers("GET")
    assert {login.headers(method)["CSRFPreventionToken"] for method in ("POST", "PUT", "DELETE")} == {"csrf-1"}


# Room


@pytest.mark.parametrize("at_once", [False, True], ids=["one after the other", "at once"])
def test_memory_is_promised_once(at_once: bool) -> None:
    """The node has 8 GiB, and PVE's figures show none of what this run has promised."""
    cluster = Scripted()
    both = threading.Barrier(2) if at_once else None

    def nextid(_call: Call) -> str:
        if both is not None:
            # Who comes here alone has shut the other out: that is what is wanted.
            with_the_other(both)
        return "200"

    cluster.answers["GET /cluster/nextid"] = nextid
    hypervisor = cluster.hypervisor()
    placed: list[int] = []
    refused: list[NoPlace] = []

    def place(number: int) -> None:
        try:
            described = spec(name=f"web{number}", memory=5120, vmid=200 + number, install={"from": "iso"})
            placed.append(hypervisor.choose_place(described).vmid)
        except NoPlace as error:
            refused.append(error)

    threads = [threading.Thread(target=place, args=(number,)) for number in (1, 2)]
    for thread in threads:
        thread.start()
        if not at_once:
            thread.join(patience(20))
    for thread in threads:
        thread.join(patience(20))
    assert len(placed) == len(refused) == 1
    assert "of memory free" in str(refused[0])


def with_the_other(both: threading.Barrier) -> None:
    try:
        both.wait(patience(0.5))
    except threading.BrokenBarrierError:
        return
