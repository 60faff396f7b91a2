"""The page is one file that shows everything, fetches nothing, and stays the same page whatever strangers wrote."""

import re
from collections import Counter
from html.parser import HTMLParser
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typing_extensions import override

from nixops_proxmox.messages.report.page import report_page
from nixops_proxmox.messages.report.styles import DARK, LIGHT
from nixops_proxmox.messages.report.topology import as_file, topology
from nixops_proxmox.operations.exporting import Exported
from nixops_proxmox.secrecy import learn
from tests.messages.report import values as made
from tests.messages.test_exports import HOSTILE

PAYLOADS = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "' onmouseover='alert(1)",
    "</title></style></svg><svg onload=alert(1)>",
    "javascript:alert(1)",
    "]]><!--",
    "--><b>",
    "&lt;script&gt;&#x3c;",
    "</text><foreignObject><iframe src=//evil>",
    "a\u202eb\x00\x1b[31mc\nd",
    "${7*7}{{7*7}}`",
]
EMPTY = {"meta", "br", "img", "link", "hr", "input"}


class Tree(HTMLParser):
    """What a browser makes of a page: its elements with their attributes' names, and the text. Nothing is left open."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, tuple[str, ...]]] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.open: list[str] = []
        self.words: list[str] = []
        self.feed(page)
        self.close()

    @override
    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, tuple(name for name, _ in attrs)))
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag not in EMPTY:
            self.open.append(tag)

    @override
    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    @override
    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style":
            self.words.append(data)

    def all_of(self, attribute: str) -> list[str]:
        return [value for _, name, value in self.attributes if name == attribute]


def page_of(values: dict[str, Any] | None = None, machines: list[Exported] | None = None) -> str:
    return report_page(values or made.values(), topology(machines or made.machines()), made.T0 + 9000)


@pytest.fixture(scope="module")
def tree() -> Tree:
    return Tree(page_of())


def test_everything_of_the_deployment_is_on_the_page(tree: Tree) -> None:
    text = " ".join(tree.words)
    for words in (
        "Deployment shop",
        "5 machines: 4 ready, 1 installed.",
        "node pve2",
        "db: disk scsi1 cannot shrink from 20 to 10 GiB",
        "memory: 2048 → 4096, at the next restart",
        "down for about 37 s, as the last time",
        "No longer described: old.",
        "cores: it has 4, the description says 2 (by hand, probably by alice@pam)",
        "192.0.2.7: timed out",
        "200 GiB",
        "403: SDN.Audit",
        "web: no answer from the guest agent",
        "root@10.0.0.6 port 22 through root@10.0.0.5",
    ):
        assert words in text


def test_nothing_is_fetched_and_no_script_runs(tree: Tree) -> None:
    assert "script" not in {tag for tag, _ in tree.elements}
    assert not [name for _, name, _ in tree.attributes if name.startswith("on") or name == "src"]
    assert all(value.startswith("#") for value in tree.all_of("href"))
    assert "url(" not in page_of() and "@import" not in page_of()
    policy = next(value for value in tree.all_of("content") if "default-src" in value)
    assert policy.startswith("default-src 'none'") and "script-src" not in policy


def test_a_keyboard_and_a_screen_reader_find_their_way(tree: Tree) -> None:
    identifiers = tree.all_of("id")
    assert max(Counter(identifiers).values()) == 1
    assert {value[1:] for value in tree.all_of("href")} <= set(identifiers)
    assert set(tree.all_of("aria-labelledby")) <= set(identifiers)
    assert tree.all_of("lang") == ["en"]
    for tag, names in tree.elements:
        assert "tabindex" not in names or {"role", "aria-label"} <= set(names), tag
        assert tag != "svg" or "aria-label" in names
        assert tag != "th" or "scope" in names
    levels = [int(tag[1]) for tag, _ in tree.elements if re.fullmatch(r"h[1-6]", tag)]
    assert levels[0] == 1 and all(below - above <= 1 for above, below in pairwise(levels))


@pytest.mark.parametrize("payload", PAYLOADS)
def test_what_strangers_wrote_is_text_and_nothing_else(payload: str) -> None:
    plain = Tree(page_of(made.with_text(made.values(), "x")))
    hostile = Tree(page_of(made.with_text(made.values(), payload)))
    assert hostile.elements == plain.elements
    assert all(value.startswith("#part") or value == "#content" for value in hostile.all_of("href"))
    assert "".join(hostile.words).replace("\n", "").isprintable()


@given(st.text(st.characters(codec="utf-8"), max_size=40) | st.text("<>\"'&/=!-script svgonload \n", max_size=40))
@settings(max_examples=15, suppress_health_check=list(HealthCheck), deadline=None)
def test_no_text_becomes_an_element(text: str) -> None:
    assert Tree(page_of(small(text or "-"))).elements == Tree(page_of(small("x"))).elements


def small(text: str) -> dict[str, Any]:
    return {
        "deployment": "shop",
        "machines": [made.row(text)],
        "history": [made.entry(text, 0, 3, label=text)],
        "checked": text,
        "plan": {"machines": [made.plan(text, moves=[text])], "no longer described": [text]},
    }


def test_hostile_machines_break_neither_the_picture_nor_a_file_of_it() -> None:
    hostile = Tree(as_file([HOSTILE])).elements
    assert {tag for tag, _ in hostile} == {"svg", "style", "title", "g", "rect", "circle", "text", "path"}
    assert not [name for _, names in hostile for name in names if name.startswith("on")]


def test_a_secret_that_somebody_wrote_into_a_name_is_blanked() -> None:
    learn("hunter2-hunter2")
    page = page_of({**made.values(), "machines": [made.row("the-hunter2-hunter2")]})
    assert "hunter2-hunter2" not in page


def test_a_part_that_could_not_be_looked_at_says_why() -> None:
    text = " ".join(Tree(page_of({**made.values(), "plan": "it cannot be evaluated"})).words)
    assert "It could not be looked at: it cannot be evaluated" in text


def test_a_page_from_the_record_says_that_nobody_was_asked() -> None:
    kept = {key: value for key, value in made.values().items() if key in ("deployment", "machines", "history")}
    text = " ".join(Tree(page_of(kept)).words)
    assert "neither the cluster nor a machine was asked" in text and "What a deploy would do" not in text


def contrast(one: str, other: str) -> float:
    """WCAG 2's, of two colours."""
    lights = sorted(map(_light, (one, other)))
    return (lights[1] + 0.05) / (lights[0] + 0.05)


def _light(colour: str) -> float:
    parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("colours", [LIGHT, DARK], ids=["light", "dark"])
def test_every_text_can_be_read_on_what_is_behind_it(colours: dict[str, str]) -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    for text in ("ink", "soft", "link", "good", "bad", "warn"):
        for behind in ("page", "card"):
            assert contrast(colours[text], colours[behind]) >= 4.5, f"{text} on {behind}"
