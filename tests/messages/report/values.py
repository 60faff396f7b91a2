"""A deployment with a bit of everything, as `--json` prints it, to make reports of."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from nixops_proxmox.model import Endpoint
from nixops_proxmox.operations.exporting import Exported, Wire
from tests.messages.test_exports import exported

T0 = 1_795_000_000.0


def machines() -> list[Exported]:
    lan = (Wire("net0", "vmbr1", "20"),)
    return [
        exported("gate", wires=(Wire("net0", "vmbr0"), Wire("net1", "vmbr1", "20"))),
        exported("web", endpoint=Endpoint("10.0.0.6", jump="root@10.0.0.5"), wires=lan),
        exported("app", node="pve2", endpoint=Endpoint("fd00::7"), wires=lan),
        replace(exported("db", node="pve2", wires=lan, volumes=("db-data",)), phase="installed", access=None),
        exported("mail", profile="prod", node="pve7", endpoint=Endpoint("10.9.0.2"), volumes=("mail", "spool")),
    ]


def row(name: str, **more: Any) -> dict[str, Any]:
    plain = {
        "machine": name,
        "phase": "ready",
        "hypervisor": "mgmt",
        "node": "pve1",
        "vmid": 100,
        "endpoint": {"host": "10.0.0.5", "port": 22, "user": "root", "jump": ""},
        "system": f"/nix/store/abc-nixos-system-{name}-25.11",
        "attempts": ["10.0.0.5: chosen", "192.0.2.7: timed out"],
    }
    return {**plain, **more}


def entry(name: str, began: float, seconds: float | None, **more: Any) -> dict[str, Any]:
    plain = {
        "id": int(began),
        "machine": name,
        "kind": "machine",
        "label": "Boot the installed system, unless it runs",
        "from": "installed",
        "to": "running",
        "began": T0 + began,
        "ended": None if seconds is None else T0 + began + seconds,
        "outcome": "done",
        "error": "",
        "tasks": [],
    }
    return {**plain, **more}


def history() -> list[dict[str, Any]]:
    steps = (("Reserve a VMID", 0.3), ("Create the VM", 6), ("Install the system", 41))
    found = [
        entry(name, 8 * number + 12 * step, seconds, label=label)
        for number, name in enumerate(("gate", "web", "app", "db", "mail"))
        for step, (label, seconds) in enumerate(steps)
    ]
    found.append(entry("web", 4000, 12, outcome="failed", error="web: no answer from the guest agent\nhint"))
    found.append(entry("db-data", 4003, 5, kind="volume", label="Make the volume"))
    found.append(entry("app", 4020, None, outcome="interrupted"))
    found.append(entry("app", 4030, 0, outcome="seen", label="switched off"))
    return found


def change(key: str, have: str, want: str, when: str = "live") -> dict[str, Any]:
    return {"key": key, "have": have, "want": want, "when": when}


def plan(name: str, **more: Any) -> dict[str, Any]:
    plain: dict[str, Any] = {
        "machine": name,
        "effect": "nothing",
        "moves": [],
        "changes": [],
        "restart": [],
        "downtime": None,
        "notes": [],
        "error": None,
    }
    return {**plain, **more}


def checked(name: str, **more: Any) -> dict[str, Any]:
    looks: dict[str, Any] = dict.fromkeys(("exists", "running", "reachable", "system_ok", "ok"), True)
    return {"machine": name, **looks, "changes": [], "drift": [], "pending": [], "problems": [], **more}


def values() -> dict[str, Any]:
    return {
        "deployment": "shop",
        "machines": [
            row("gate"),
            row("web", endpoint={"host": "10.0.0.6", "port": 22, "user": "root", "jump": "root@10.0.0.5"}),
            row("app", node="pve2"),
            row("db", node="pve2", phase="installed", endpoint=None, attempts=["not running: it is installed"]),
            row("mail", hypervisor="prod", node="pve7"),
        ],
        "history": history(),
        "plan": {
            "machines": [
                plan("db", effect="refused", error="db: disk scsi1 cannot shrink from 20 to 10 GiB"),
                plan(
                    "web",
                    effect="restart",
                    moves=["Change the VM to match the description", "Boot the installed system, unless it runs"],
                    changes=[change("memory", "2048", "4096", "at the next restart"), change("net1", "", "vmbr1")],
                    restart=["memory"],
                    downtime=37.0,
                ),
                *(plan(name) for name in ("gate", "app", "mail")),
            ],
            "no longer described": ["old"],
        },
        "checked": [
            checked("gate"),
            checked(
                "web",
                ok=False,
                changes=[change("cores", "4", "2")],
                drift=[{"key": "cores", "origin": "by hand", "tasks": [{"user": "alice@pam"}]}],
                pending=["memory"],
            ),
            checked("db", ok=False, running=False, reachable=None, problems=["it is installed: deploy goes on"]),
        ],
        "volumes": [
            volume("db-data", size=200 << 30, machine="db", node="pve2", phase="attached"),
            volume("old-wiki"),
        ],
        "resources": [resource("pool"), resource("network", phase=None, error="403: SDN.Audit")],
    }


def volume(name: str, **more: Any) -> dict[str, Any]:
    plain = {"volume": name, "size": 20 << 30, "storage": "ceph", "machine": None, "node": None, "phase": "parked"}
    return {**plain, **more}


def resource(kind: str, **more: Any) -> dict[str, Any]:
    return {"kind": kind, "name": "shop", "phase": "present", "differences": [], "remarks": [], "error": None, **more}


def with_text(value: Any, words: str) -> Any:
    """The same with every text replaced. What texts of a fixed set decide stays."""
    fixed = ("phase", "outcome", "kind", "effect", "when", "origin")
    match value:
        case str():
            return words
        case Mapping():
            return {key: inner if key in fixed else with_text(inner, words) for key, inner in value.items()}
        case Sequence():
            return [with_text(inner, words) for inner in value]
    return value
