"""Stand-ins of routers as a process: `python -m tests.routers.standing FOLDER`.

Prints the profiles of a VyOS and an OPNsense as JSON. Then each line that it reads is a command, and has one line as
its answer: `state`, `sleep SECONDS` (their clock goes on), `stick TIMES` (so many confirmations wait until their caller
is gone), `edit PATH… VALUE`; and for the OPNsense: `office`, and `move TABLE FIELD VALUE`, as somebody does by hand.
"""

import json
import sys
import time
from pathlib import Path
from typing import Any

from nixops_proxmox.lab.routers.client import Client
from nixops_proxmox.lab.routers.opnsense import OpnsenseStandIn
from nixops_proxmox.lab.routers.vyos import VyosStandIn
from tests.routers.serving import serve

KEY = "a-key-of-the-API"
HAND_MADE = {"description": "theirs", "outbound-interface": {"name": "eth0"}, "translation": {"address": "masquerade"}}
RUNNING = {
    "interfaces": {"ethernet": {"eth0": {"address": "192.0.2.1/24"}, "eth1": {"address": "10.8.0.1/24"}}},
    "nat": {"source": {"rule": {"10": HAND_MADE}}},
}


class Clock:
    def __init__(self) -> None:
        self.ahead = 0.0

    def now(self) -> float:
        return time.monotonic() + self.ahead


def answer(vyos: VyosStandIn, opnsense: OpnsenseStandIn, clock: Clock, words: list[str]) -> Any:
    match words:
        case ["state"]:
            return {
                "running": vyos.running,
                "saved": vyos.saved,
                "waits": vyos.timer is not None,
                "stuck": vyos.stuck,
                "cut": vyos.is_cut_off,
                "reverts": vyos.reverts,
                "reservations": [*opnsense.acting["reservation"].values(), *opnsense.acting["reservation6"].values()],
            }
        case ["office"]:
            there = opnsense.filter
            cut = there.is_cut_off
            return {
                **{what: list(rows.values()) for what, rows in there.acting.items()},
                "applied": there.acting == there.configured,
                "waits": there.timer is not None,
                "stuck": there.stuck,
                "cut": cut,
                "reverts": there.reverts,
            }
        case ["move", table, name, value]:
            for rows in (opnsense.filter.configured[table], opnsense.filter.acting[table]):
                next(iter(rows.values()))[name] = value
        case ["sleep", seconds]:
            clock.ahead += float(seconds)
        case ["stick", times]:
            vyos.sticks = opnsense.filter.sticks = int(times)
        case ["edit", *path, leaf, value]:
            node: Any = vyos.running
            for word in path:
                node = node[word]
            node[leaf] = value
    return {}


def tell(what: object) -> None:
    sys.stdout.write(f"{json.dumps(what)}\n")
    sys.stdout.flush()


def main(folder: Path) -> None:
    clock = Clock()
    vyos = VyosStandIn("1.5", KEY, RUNNING, client=Client(), now=clock.now)
    subnets = ("10.9.0.0/24",), ("fd09::/64",)
    office_client = Client(interface="wan")
    opnsense = OpnsenseStandIn(
        "26.1", "nixops", KEY, subnets[0], subnets6=subnets[1], client=office_client, now=clock.now
    )
    with serve(vyos.app, folder / "vyos") as (edge, one), serve(opnsense.app, folder / "opnsense") as (office, two):
        profiles = {
            "edge": {"type": "vyos", "endpoint": edge, "fingerprint": one, "secret": KEY, "network": "LAB"},
            "office": {
                "type": "opnsense",
                "endpoint": office,
                "fingerprint": two,
                "username": "nixops",
                "secret": KEY,
                "ipv6": True,
            },
        }
        tell(profiles)
        for line in sys.stdin:
            tell(answer(vyos, opnsense, clock, line.split()))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
