"""The built site, read as a browser would read it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path

from typing_extensions import override

FETCHED = {("script", "src"), ("img", "src"), ("iframe", "src"), ("link", "href"), ("source", "src"), ("video", "src")}


@dataclass
class Page:
    """What a page has: its anchors, what it links to, and what a browser fetches for it."""

    anchors: set[str] = field(default_factory=set)
    links: set[str] = field(default_factory=set)
    fetched: set[str] = field(default_factory=set)


class Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.page = Page()

    @override
    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.page.anchors |= {given[name] for name in ("id", "name") if name in given}
        if tag == "a" and "href" in given:
            self.page.links.add(given["href"])
        if tag == "link" and given.get("rel") in ("canonical", "prev", "next"):
            return
        self.page.fetched |= {value for name, value in given.items() if (tag, name) in FETCHED}


def read_page(path: Path) -> Page:
    reader = Reader()
    reader.feed(path.read_text(encoding="utf-8"))
    return reader.page


def read_site(folder: Path) -> Mapping[Path, Page]:
    return {path.resolve(): read_page(path) for path in sorted(folder.rglob("*.html"))}
