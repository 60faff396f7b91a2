"""No verb works beside the journal: whatever changes a VM tells its task's UPID to an attempt of the engine."""

import ast
import inspect
from collections.abc import Iterator
from pathlib import Path

import pytest

from nixops_proxmox.kinds import medium
from nixops_proxmox.kinds.machine import ports
from nixops_proxmox.kinds.volume.ports import DiskStore
from nixops_proxmox.pve.cluster.hypervisor import PveHypervisor
from nixops_proxmox.pve.cluster.media import Media
from nixops_proxmox.pve.cluster.moves import Moves
from nixops_proxmox.pve.cluster.saves import Saves
from nixops_proxmox.pve.cluster.volume_store import VolumeStore

PACKAGE = Path(inspect.getfile(ports)).parents[2]
REAL: dict[type, type] = {
    ports.Hypervisor: PveHypervisor,
    ports.Saves: Saves,
    ports.Moves: Moves,
    medium.Media: Media,
    DiskStore: VolumeStore,
}
AT_LEAST: dict[type, int] = {ports.Moves: 1, medium.Media: 2}  # effects of a port; all others have six and more
WITHOUT_A_TASK = {"set_boot", "give_mark", "put_mark", "retire_vm"}  # done at once; called by steps and errands alone
OURS = {"hypervisor", "_hypervisor", "saves", "moves", "media", "store", "volume_store"}  # what effects are called on
ONLY_LOOKS = ("get_", "list_", "describe_", "find_")


def effects(of: type) -> dict[str, inspect.Signature]:
    """The methods that take a note of their task."""
    found = {name: inspect.signature(method) for name, method in inspect.getmembers(of, inspect.isfunction)}
    return {name: signature for name, signature in found.items() if "note" in signature.parameters}


@pytest.mark.parametrize("port", REAL, ids=lambda port: port.__name__)
def test_no_effect_can_be_asked_for_without_a_note(port: type) -> None:
    assert len(effects(port)) >= AT_LEAST.get(port, 6)
    for of in (port, REAL[port]):
        for name, signature in effects(of).items():
            assert signature.parameters["note"].default is inspect.Parameter.empty, f"{of.__name__}.{name}"


def calls(path: Path) -> Iterator[tuple[ast.Call, str, str]]:
    """Each call of a method: by whose name, and which."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            value = node.func.value
            name = value.attr if isinstance(value, ast.Attribute) else value.id if isinstance(value, ast.Name) else ""
            yield node, name, node.func.attr


def notes(call: ast.Call) -> bool:
    return any(isinstance(arg, ast.Attribute) and arg.attr == "note_task" for arg in call.args)


def beside(path: Path, package: Path = PACKAGE) -> list[str]:
    """Calls that change a VM, and tell no attempt of it."""
    named = {name for port in REAL for name in effects(port)}
    place = path.relative_to(package).as_posix()
    found = []
    for call, whose, what in calls(path):
        lost = whose in OURS and what in named and not notes(call)
        quick = whose in OURS and what in WITHOUT_A_TASK and not place.startswith("kinds/machine/")
        raw = whose == "client" and not what.startswith(ONLY_LOOKS)
        if lost or quick or raw:
            found.append(f"{place}:{call.lineno}: {whose}.{what}")
    return found


def test_no_verb_is_outside_of_the_journal() -> None:
    paths = [path for path in PACKAGE.rglob("*.py") if path.relative_to(PACKAGE).parts[0] not in ("lab", "pve")]
    assert len(paths) > 100
    assert [one for path in paths for one in beside(path)] == []


def test_one_that_was_would_be_found(tmp_path: Path) -> None:
    path = tmp_path / "operations" / "verb.py"
    path.parent.mkdir()
    path.write_text(
        "hypervisor.stop_vm(facts, lambda _upid: None)\n"
        "self.world.hypervisor.saves.restore(facts, archive, print, over='')\n"
        "hypervisor.give_mark(machine, uuid)\n"
        "hypervisor.client.roll_back(node, vmid, name)\n"
        "hypervisor.stop_vm(facts, attempt.note_task)\n"
        "hypervisor.client.get_config(node, vmid)\n"
    )
    assert [one.rpartition(".")[2] for one in beside(path, tmp_path)] == [
        "stop_vm",
        "restore",
        "give_mark",
        "roll_back",
    ]
