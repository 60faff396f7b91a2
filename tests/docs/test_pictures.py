"""Diagrams are drawn by us: no arrow is lost, and a line that is not understood is an error."""

import re
from types import ModuleType

import pytest

from tests.docs.test_hints import load


@pytest.fixture(scope="module")
def pictures() -> ModuleType:
    return load("pictures")


STATES = """stateDiagram-v2
    [*] --> absent
    absent --> ready: Make <it>
    ready --> absent: Destroy it
    ready --> absent: Lose it
"""
FLOW = "flowchart LR\n    a[network.nix] -->|asks Nix| b\n    b --> c[(state)]\n    z --> c\n"


def test_every_arrow_is_drawn_and_listed(pictures: ModuleType) -> None:
    drawn = pictures.with_pictures(f"before\n\n```mermaid\n{STATES}```\n\nafter\n")
    assert drawn.startswith("before\n\n<figure") and drawn.endswith("</details>\n\nafter\n")
    assert drawn.count('class="arrow"') == 3
    assert "ready → absent: Destroy it; Lose it" in drawn
    assert "<it>" not in drawn and "Make &lt;it&gt;" in drawn


def test_boxes_have_their_labels(pictures: ModuleType) -> None:
    graph = pictures.read(FLOW)
    assert graph.names == {"a": "network.nix", "b": "b", "c": "state", "z": "z"}
    assert pictures.ranks(graph) == {"a": 0, "b": 1, "c": 2, "z": 1}


def test_a_box_may_have_two_lines_and_a_line_no_tip(pictures: ModuleType) -> None:
    graph = pictures.read("flowchart LR\n  you([you]) -->|HTTP| web[web<br>nginx]\n  web --- data[/volume data/]\n")
    assert graph.names == {"you": "you", "web": "web\nnginx", "data": "volume data"}
    drawn = pictures.picture(graph)
    assert "you → web (nginx): HTTP" in drawn and drawn.count("marker-end") == 1
    assert ">web</text>" in drawn and ">nginx</text>" in drawn


def test_no_two_boxes_lie_on_each_other(pictures: ModuleType) -> None:
    drawn = pictures.draw(pictures.read(STATES + "    absent --> stopped\n    absent --> installed\n"))
    boxes = [tuple(map(float, one)) for one in re.findall(r'<rect x="([\d.]+)" y="([\d.]+)" width="([\d.]+)"', drawn)]
    for i, (x, y, width) in enumerate(boxes):
        assert all(y != other[1] or x + width <= other[0] or other[0] + other[2] <= x for other in boxes[:i])


def test_a_line_that_is_not_understood_is_an_error(pictures: ModuleType) -> None:
    with pytest.raises(ValueError, match="subgraph one"):
        pictures.read("flowchart LR\n    subgraph one\n")
