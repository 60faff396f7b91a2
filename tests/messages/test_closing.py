"""The last lines of a deploy: where each machine is, the way in, and what to look at."""

from dataclasses import replace

from nixops_proxmox.cli.spelling import spelled
from nixops_proxmox.messages.closing import MOST, closing_lines
from nixops_proxmox.model import Endpoint, Facts, Machine, Phase

WEB = Machine("shop", "web", Phase.READY, Facts(profile="lab", node="pve1", vmid=104, endpoint=Endpoint("10.77.0.50")))
DB = Machine(
    "shop",
    "database",
    Phase.READY,
    Facts(profile="lab", node="pve2", vmid=9105, endpoint=Endpoint("fd77::1", jump="root@web")),
)


def told(*machines: Machine) -> list[str]:
    return [spelled(line.text) for line in closing_lines(machines)]


def test_each_machine_has_a_line_with_place_and_address() -> None:
    assert told(WEB, DB) == [
        "  web       lab/pve1, VM 104   at 10.77.0.50",
        "  database  lab/pve2, VM 9105  at fd77::1, through root@web",
        "log in: `nixops-proxmox ssh web`; the console: `nixops-proxmox console web`",
        "look: `nixops-proxmox status`, `nixops-proxmox history web`, `nixops-proxmox check`",
    ]


def test_many_machines_are_counted_by_hypervisor_and_node() -> None:
    fleet = [replace(WEB, name=f"m{n}") for n in range(MOST)] + [
        DB,
        replace(DB, facts=Facts(profile="mgmt", node="one")),
    ]
    assert told(*fleet)[:2] == [f"  lab: {MOST} on pve1, 1 on pve2", "  mgmt: 1 on one"]


def test_a_run_that_did_nothing_has_none() -> None:
    assert told() == []
