"""Writes the generated blocks of docs/*.md: the lifecycle's picture and table, and the command line's help.

A block stands between `<!-- generated: NAME -->` and `<!-- end: NAME -->`; the text around it is written by hand.
With --check nothing is written: what is out of date is named, and the exit status is 1.
"""

import argparse
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nixops_proxmox.kinds.registry import Entry

ROOT = Path(__file__).resolve().parents[1]


class NoSuchBlock(Exception):
    """A document asks for a block that nobody writes."""


def lifecycle_block() -> str:
    from nixops_proxmox.core.diagram import mermaid, table
    from nixops_proxmox.kinds.machine.table import LIFECYCLE

    return f"```mermaid\n{mermaid(LIFECYCLE)}```\n\n```text\n{table(LIFECYCLE)}```"


def other_kinds_block() -> str:
    from nixops_proxmox.kinds.registry import our_kinds

    return kinds_text(our_kinds())


def kinds_text(kinds: "Iterable[Entry]") -> str:
    """All kinds except machines, which have a page of their own."""
    from nixops_proxmox.core.diagram import table

    return "\n\n".join(
        f"`{kind.name}`: {kind.about}.{_resource_types(kind)}\n\n```text\n{table(kind.lifecycle)}```"
        for kind in kinds
        if kind.name != "machine"
    )


def _resource_types(kind: "Entry") -> str:
    names = ", ".join(f"`{one.name}`" for one in kind.types())
    return f" NixOps 4 has it as {names}." if names else ""


def command_line_block() -> str:
    from nixops_proxmox.cli import build_parser

    return "\n\n".join(
        f"## {title}\n\n```text\n{text.rstrip()}\n```" for title, text in help_texts(build_parser(in_full=True))
    )


def help_texts(parser: argparse.ArgumentParser) -> Iterator[tuple[str, str]]:
    """(command, its --help) of a parser and of all its subcommands, in their order."""
    yield parser.prog, parser.format_help()
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for below in dict.fromkeys(action.choices.values()):
                yield from help_texts(below)


def rights_block() -> str:
    """Each privilege that a description with everything in it needs, by what for and on what, for each release."""
    from nixops_proxmox.pve.api.versions import Release
    from nixops_proxmox.pve.cluster.permissions import needs_of
    from nixops_proxmox.spec import Cpu, Disk, MachineSpec, Nic

    machine = MachineSpec(
        name="web",
        pool="POOL",
        startup="order=1",
        cpu=Cpu(type="custom-MODEL"),
        disks=(Disk(slot="scsi0", storage="STORAGE", size=1 << 30),),
        network=(Nic(slot="net0", bridge="vmbr0"),),
        extra={"usb0": "mapping=DEVICE", "ide0": "STORAGE:cloudinit"},
        install={"from": "iso", "iso": "ISOS:iso/installer.iso"},
    )
    copied = machine.model_copy(update={"install": type(machine.install)(source="template", template="TEMPLATE")})
    releases = (Release(7, 4), Release(8, 4), Release(9, 1), Release(9, 2))
    rows: dict[tuple[str, str, bool], dict[Release, list[str]]] = {}
    for release in releases:
        needs = dict.fromkeys((*needs_of(machine, release), *needs_of(copied, release)))
        for need in needs:
            where = " or ".join(f"`{path}`" for path in need.paths)
            row = rows.setdefault((need.purpose, where, need.must), {one: [] for one in releases})
            row[release] += need.privileges
    heads = ["for", "to deploy", "on", *map(str, releases)]
    lines = ["| " + " | ".join(heads) + " |", "| --- " * len(heads) + "|"]
    for must in (True, False):
        for (purpose, where, needed), by_release in rows.items():
            if needed is must:
                cells = [", ".join(f"`{name}`" for name in by_release[one]) or "-" for one in releases]
                lines.append(f"| {purpose} | {'needed' if must else '-'} | {where} | {' | '.join(cells)} |")
    return "\n".join(lines)


def layouts_block() -> str:
    from nixops_proxmox.spec.layouts import LAYOUTS

    rows = [
        f"| `{name}` | {layout.about} | {f'{layout.boot} MiB' if layout.apart else f'{layout.boot} MiB with UEFI'} |"
        for name, layout in LAYOUTS.items()
    ]
    return "\n".join(["| layout | what it makes of the first disk | `/boot` |", "| --- | --- | --- |", *rows])


def json_block() -> str:
    from scripts.json_tables import json_tables

    return json_tables()


BLOCKS: Mapping[str, Callable[[], str]] = {
    "rights": rights_block,
    "layouts": layouts_block,
    "lifecycle": lifecycle_block,
    "other kinds": other_kinds_block,
    "command line": command_line_block,
    "json": json_block,
}


def with_blocks(text: str, blocks: Mapping[str, Callable[[], str]] = BLOCKS) -> str:
    """The document with each of its blocks written anew."""

    def replace(found: re.Match[str]) -> str:
        name = found["name"]
        if name not in blocks:
            raise NoSuchBlock(f"there is no generated block {name!r}; known: {', '.join(blocks)}")
        return f"<!-- generated: {name} -->\n{blocks[name]()}\n<!-- end: {name} -->"

    pattern = r"<!-- generated: (?P<name>[^>]+?) -->\n(?s:.*?)<!-- end: (?P=name) -->"
    return re.sub(pattern, replace, text)


def outdated(folder: Path, blocks: Mapping[str, Callable[[], str]] = BLOCKS) -> Iterator[tuple[Path, str]]:
    """Each document below `folder` that is not what it would be if it was generated now, and that text."""
    for path in sorted(folder.rglob("*.md")):
        have = path.read_text(encoding="utf-8")
        want = with_blocks(have, blocks)
        if have != want:
            yield path, want


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description="Writes the generated blocks of docs/*.md.")
    parser.add_argument("--check", action="store_true", help="write nothing; fail if something is out of date")
    check = parser.parse_args(arguments).check
    os.environ["COLUMNS"] = "100"  # argparse wraps its help to the terminal's width
    found = list(outdated(ROOT / "docs"))
    for path, want in found:
        if check:
            sys.stderr.write(f"{path.relative_to(ROOT)} is out of date: run scripts/docs\n")
        else:
            path.write_text(want, encoding="utf-8")
            sys.stderr.write(f"wrote {path.relative_to(ROOT)}\n")
    return 1 if check and found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
