"""The pictures of a report: machines in their nodes, and the steps of each run."""

import re
from itertools import pairwise
from xml.etree import ElementTree

from nixops_proxmox.messages.report.timeline import RUNS, runs, timelines
from nixops_proxmox.messages.report.topology import as_file, topology
from nixops_proxmox.model import Endpoint
from nixops_proxmox.operations.exporting import Exported
from tests.messages.report import values as made
from tests.messages.test_exports import exported

SVG = "{http://www.w3.org/2000/svg}"


def boxes(machines: list[Exported]) -> dict[str, list[tuple[float, float, float, float]]]:
    """(left, top, right, bottom) of the boxes, by class."""
    found: dict[str, list[tuple[float, float, float, float]]] = {}
    for group in ElementTree.fromstring(topology(machines)).iter(f"{SVG}g"):
        box = next(iter(group.iter(f"{SVG}rect")))
        x, y, width, height = (float(box.attrib[name]) for name in ("x", "y", "width", "height"))
        found.setdefault(group.attrib["class"].split()[0], []).append((x, y, x + width, y + height))
    return found


def test_every_machine_is_inside_of_one_node_and_one_hypervisor() -> None:
    found = boxes(made.machines())
    assert {name: len(theirs) for name, theirs in found.items()} == {
        "hypervisor": 2, "node": 3, "machine": 5, "bridge": 3, "volume": 3
    }  # fmt: skip
    for left, top, right, bottom in found["machine"]:
        for around in ("node", "hypervisor"):
            holding = [b for b in found[around] if b[0] < left and b[1] < top and right < b[2] and bottom < b[3]]
            assert len(holding) == 1


def test_no_boxes_of_a_sort_overlap_however_many_there_are() -> None:
    many = [exported(f"m{number}", node=f"pve{number % 3}", volumes=(f"v{number}",)) for number in range(40)]
    found = boxes(many)
    assert len(found["machine"]) == len(found["volume"]) == 40
    beside = [*found["bridge"], *found["volume"]]
    for sort in (found["machine"], beside, found["node"]):
        spans = sorted((top, bottom) for _, top, _, bottom in sort)
        assert all(above[1] <= below[0] for above, below in pairwise(spans))


def test_lines_say_what_they_connect() -> None:
    picture = topology(made.machines())
    assert "db → db-data" in picture and "gate → vmbr1, net1, VLAN 20" in picture
    (way,) = re.findall(r'<path d="[^"]+" class="way">|<path[^>]*class="way"[^>]*>', picture)
    assert "gate → web, ssh" in picture and way


def test_a_jump_host_that_is_no_machine_stands_beside_them() -> None:
    found = boxes([exported("web", endpoint=Endpoint("10.0.0.6", jump="op@bastion"))])
    assert len(found["jump"]) == 1


def test_the_picture_is_a_file_of_its_own() -> None:
    root = ElementTree.fromstring(as_file(made.machines()))
    assert root.tag == f"{SVG}svg" and "prefers-color-scheme:dark" in str(next(iter(root)).text)


def test_no_machines_are_a_picture_too() -> None:
    assert ElementTree.fromstring(topology([])).tag == f"{SVG}svg"


def test_steps_with_a_pause_between_them_are_two_runs() -> None:
    found = runs(made.history())
    assert [len(one) for one in found] == [15, 3]
    assert not any(entry["outcome"] == "seen" for one in found for entry in one)


def test_a_long_step_is_no_pause() -> None:
    history = [made.entry("web", 0, 900), made.entry("web", 1000, 5), made.entry("web", 1400, 5)]
    assert [len(one) for one in runs(history)] == [2, 1]


def test_the_newest_runs_come_first_and_say_what_failed() -> None:
    told = [str(one) for one in timelines(made.history())]
    assert "3 steps in 20 s, 1 failed" in told[0]
    assert told[1].count('class="step failed"') == 1 and told[1].count('class="step cut"') == 1
    many = [made.entry("web", 1000 * number, 5) for number in range(RUNS + 5)]
    assert len(list(timelines(many))) == 2 * RUNS
