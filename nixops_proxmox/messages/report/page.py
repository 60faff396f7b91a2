"""The page as a whole: one file, without a script, and nothing in it is fetched."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from nixops_proxmox import __version__
from nixops_proxmox.messages.report import sections
from nixops_proxmox.messages.report.markup import Markup, Values, element, joined
from nixops_proxmox.messages.report.styles import COLOURS, PAGE, PICTURES
from nixops_proxmox.texts import moment_text

POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"


def report_page(values: Values, picture: Markup, now: float) -> str:
    """`values`: `deployment`, `machines` as `status --json` has them (with `attempts`), `history`; and if they were
    looked at, `plan`, `checked`, `volumes` and `resources`. A part that could not be looked at is a text that says
    why."""
    title = f"Deployment {values['deployment']}"
    parts = list(_parts(values, picture))
    menu = [element("li", element("a", name, href=f"#part{number}")) for number, (name, _) in enumerate(parts)]
    head = joined(
        Markup('<meta charset="utf-8">'),
        Markup(f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'),
        Markup('<meta name="viewport" content="width=device-width, initial-scale=1">'),
        Markup('<meta name="referrer" content="no-referrer">'),
        element("title", title),
        Markup(f"<style>{COLOURS}{PICTURES}{PAGE}</style>"),
    )
    body = joined(
        element("a", "Skip to the content", href="#content", class_="skip"),
        element("header", element("h1", title), sections.summary(values["machines"])),
        element("nav", element("ul", *menu), aria_label="Parts of this page"),
        element("main", *(_section(number, *part) for number, part in enumerate(parts)), id="content"),
        element("footer", f"As of {moment_text(now)}, by nixops-proxmox {__version__}. {_asked(values)}"),
    )
    return f"<!doctype html>\n{element('html', element('head', head), element('body', body), lang='en')}\n"


def _asked(values: Values) -> str:
    if "checked" in values:
        return "The cluster and the machines were asked for it."
    return "It comes from the record: neither the cluster nor a machine was asked."


def _section(number: int, name: str, inner: Sequence[Markup]) -> Markup:
    heading = f"part{number}-title"
    return element("section", element("h2", name, id=heading), *inner, id=f"part{number}", aria_labelledby=heading)


def _parts(values: Values, picture: Markup) -> Iterator[tuple[str, list[Markup]]]:
    legend = "Solid lines: networks and volumes. Dashed lines: the way of SSH through a jump host."
    scrolled = element("div", picture, class_="wide", tabindex=0, role="group", aria_label="Topology")
    yield "Topology", [scrolled, element("p", legend, class_="soft")]
    yield "Machines", [sections.machines_part(values["machines"])]
    yield from _looked_at(values, ("plan", "checked"))
    endpoints = list(sections.endpoints_part(values["machines"]))
    if endpoints:
        yield "Addresses, and why", endpoints
    yield from _looked_at(values, ("volumes", "resources"))
    if values["history"]:
        yield "History", list(sections.history_part(values["history"]))


MAKERS: Mapping[str, tuple[str, Callable[[Any], Iterable[Markup]]]] = {
    "plan": ("What a deploy would do", sections.plan_part),
    "checked": ("What is true right now", sections.drift_part),
    "volumes": ("Volumes", sections.volumes_part),
    "resources": ("Resources", sections.resources_part),
}


def _looked_at(values: Values, keys: Sequence[str]) -> Iterator[tuple[str, list[Markup]]]:
    for key in keys:
        found, (name, maker) = values.get(key), MAKERS[key]
        if isinstance(found, str):
            yield name, [element("p", f"It could not be looked at: {found}", class_="bad")]
        elif found:
            yield name, list(maker(found))
