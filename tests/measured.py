"""Changes to one running machine, each measured: what the plan said, what the deploy did, and how long the machine's
service was away. Prints a table and compares it with docs/measured-changes.md, which `measure_changes` writes."""

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.pace import pace, patience

if TYPE_CHECKING:
    from tests.e2e.bed import Bed

WRITE = "NIXOPS_PROXMOX_MEASURED"  # if it is set, tables are written into the page, and not compared with it
PAGE = Path(__file__).parents[1] / "docs" / "measured-changes.md"
BOOT = "cat /proc/sys/kernel/random/boot_id"
AWAY = 2.0  # seconds without an answer that are an interruption, on an idle machine
NOT_HEARD = 120.0  # seconds until a service that was up must answer again
LIVE, RESTART = "live", "at the next restart"
# Asks the service again and again, and writes down when it answered.
ASK = """\
import socket, sys, time
address, file, pause = sys.argv[1], open(sys.argv[2], "a", buffering=1), float(sys.argv[3])
while True:
    try:
        with socket.create_connection((address, 80), timeout=1) as link:
            link.settimeout(2)
            link.sendall(b"GET / HTTP/1.0\\r\\n\\r\\n")
            if link.recv(1):
                file.write(f"{time.time()}\\n")
    except OSError:
        pass
    time.sleep(pause)
"""
Hand = Callable[["Bed", int], object]
Look = Callable[[], Mapping[str, str]]  # what a real guest sees, by PVE's key, and its boot


@dataclass(frozen=True)
class Change:
    """`given`: what the description has from now on, or `hand`: what somebody does to the VM. `words`: options of plan
    and deploy. `refused`: the deploy does nothing, and a part of what it says. `after`: mends what was left."""

    title: str
    given: Mapping[str, Any] = field(default_factory=dict)
    hand: Hand | None = None
    words: tuple[str, ...] = ()
    refused: str = ""
    after: Hand | None = None


@dataclass(frozen=True)
class Row:
    """`promised`: seconds as the plan says; None: unknown, or no restart. `measured`: the longest time without an
    answer. `saw`: what a real guest saw change; None: nobody looked."""

    title: str
    by: str
    plan: str
    did: str
    restarts: bool
    restarted: bool
    promised: float | None
    measured: float
    when: Mapping[str, str]  # by PVE's key
    left: Mapping[str, str]  # what still differs
    visible: frozenset[str] = frozenset()  # what a guest must see, if it took effect
    saw: frozenset[str] | None = None


def set_by_hand(**values: Any) -> Hand:
    return lambda bed, vmid: bed.api("PUT", f"/nodes/{node(bed, vmid)}/qemu/{vmid}/config", **values)


def node(bed: "Bed", vmid: int) -> str:
    return str(bed.vms()[str(vmid)]["node"])


@contextmanager
def start_watch(bed: "Bed", address: str, file: Path, pause: float) -> Iterator[Callable[[float], float]]:
    """The longest time without an answer since a moment, until there is an answer again."""
    file.unlink(missing_ok=True)
    argv = bed.running.enter_argv([sys.executable, "-I", "-c", ASK, address, str(file), str(pause)])
    process = subprocess.Popen(argv)

    def longest(since: float) -> float:
        now, deadline = time.time(), time.monotonic() + patience(NOT_HEARD)
        while (heard := _heard(file))[-1:] < [now]:
            assert process.poll() is None and time.monotonic() < deadline, f"{address} does not answer any more"
            time.sleep(0.05)
        window = [max([at for at in heard if at <= since], default=since), *(at for at in heard if at > since)]
        return max(after - before for before, after in pairwise(window))

    try:
        longest(time.time())
        yield longest
    finally:
        process.kill()
        process.wait()


def _heard(file: Path) -> list[float]:
    text = file.read_text() if file.exists() else ""
    return [float(line) for line in text[: text.rfind("\n") + 1].split()]


def measure(
    bed: "Bed", name: str, changes: Sequence[Change], address: str, *, pause: float = 0.1, look: Look | None = None
) -> list[Row]:
    """The machine is ready. Makes one change after another, each on top of what the earlier ones described. `pause`:
    seconds between two questions to its service."""
    (vmid,) = (one["vmid"] for one in bed.status() if one["machine"] == name)
    given: dict[str, Any] = {}
    rows = []
    with start_watch(bed, address, bed.home / "heard", pause) as longest:
        for change in changes:
            given |= change.given
            rows.append(_measure_one(bed, name, int(vmid), change, json.dumps(given), longest, look))
            sys.stderr.write(f"{len(rows)}. {rows[-1]}\n")
    return rows


def _measure_one(
    bed: "Bed", name: str, vmid: int, change: Change, given: str, longest: Callable[[float], float], look: Look | None
) -> Row:
    if change.hand is not None:
        change.hand(bed, vmid)
    boot, before = bed.ssh(name, BOOT), look() if look else {}
    words = bed.run("plan", *change.words, check=True, GIVEN=given).stdout
    said = _plan(bed, name, given, change.words)
    began = time.time()
    done = bed.run("deploy", *change.words, check=False, GIVEN=given)
    measured = longest(began)
    assert (done.returncode != 0) is bool(change.refused), f"{change.title}: {done.stdout}\n{done.stderr}"
    assert change.refused in " ".join(done.stderr.split()), done.stderr
    restarted = bed.ssh(name, BOOT) != boot
    left = _when(_plan(bed, name, given, change.words))
    after = look() if look else {}
    row = Row(
        change.title,
        "by hand" if change.hand else "description",
        _said_of(name, words).replace(str(vmid), "VMID"),
        _did(said, left, refused=bool(change.refused), restarted=restarted),
        bool(said["restart"]),
        restarted,
        said["downtime"],
        measured,
        _when(said),
        left,
        frozenset(
            one["key"]
            for one in said["changes"]
            if not one["key"].startswith("net") or not one["have"] or not one["want"]
        ),
        frozenset(key for key in before if after[key] != before[key]) if look else None,
    )
    if change.after is not None:
        change.after(bed, vmid)
    return row


def _plan(bed: "Bed", name: str, given: str, words: Sequence[str]) -> dict[str, Any]:
    plans = json.loads(bed.run("plan", "--json", *words, check=True, GIVEN=given).stdout)["machines"]
    found: dict[str, Any] = next(one for one in plans if one["machine"] == name)
    return found


def _when(plan: Mapping[str, Any]) -> dict[str, str]:
    return {one["key"]: "waits" if one["waiting"] else one["when"] for one in plan["changes"]}


def _did(said: Mapping[str, Any], left: Mapping[str, str], *, refused: bool, restarted: bool) -> str:
    """From what is there afterwards."""
    if refused:
        return "nothing, and said why"
    made = [one["key"] for one in said["changes"] if one["key"] not in left]
    parts = ["restarted it"] if restarted else []
    parts += [f"changed {', '.join(made)}"] if made else []
    parts += ["activated the system"] if said["system"] else []
    parts += [f"left {', '.join(left)} to the next restart"] if left else []
    return "; ".join(parts) or "nothing"


def _said_of(name: str, words: str) -> str:
    """The plan's first line about the machine, and a line for each change; serials and volumes shortened."""
    lines = words.splitlines()
    first = next(number for number, line in enumerate(lines) if line.startswith(f"{name}: "))
    told = [lines[first].removeprefix(f"{name}: ")]
    for line in lines[first + 1 :]:
        if not line.startswith(" "):
            break
        if line.strip().startswith(("~", "+", "-")) or " stays" in line:
            told.append(_short(line.strip()))
    return "; ".join(told)


def _short(line: str) -> str:
    """Without what differs from one run to the next, and with the beginnings of long values."""
    line = re.sub("BC(:[0-9A-F]{2}){5}", "MAC", re.sub("serial=[0-9a-f]{16}", "serial=…", line))
    return " ".join(",".join(word.split(",")[:2]) + (",…" if word.count(",") > 1 else "") for word in line.split(" "))


def away(row: Row, most: float) -> bool:
    return row.measured > most * pace()


def check(rows: Sequence[Row], most: float = AWAY, slack: float = 10.0) -> None:
    """What was promised is what happened, in each row. `most`: seconds without an answer that are no interruption.
    `slack`: by how much longer than thrice the promised time a restart may take."""
    wrong = [row for row in rows if row.restarts is not row.restarted or (away(row, most) and not row.restarted)]
    assert not wrong, wrong
    for row in rows:
        for key, when in row.when.items():
            if when == LIVE:
                assert key not in row.left, row
            elif when in (RESTART, "waits") and not row.restarted:
                assert row.left.get(key) == "waits", row
    restarts = [row for row in rows if row.restarted]
    assert restarts and restarts[0].promised is None, "nothing was known before the first restart"
    for row in restarts[1:]:
        assert row.promised is not None and row.measured < 3 * row.promised + slack * pace(), row


def check_sights(rows: Sequence[Row], sees: Sequence[str]) -> None:
    """What a guest saw change, of all that it can see, is what took effect; and another boot, if it was restarted."""
    for row in rows:
        took_effect = {key for key in row.visible if key in sees and key not in row.left}
        assert set(row.saw or ()) == took_effect | ({"boot"} if row.restarted else set()), row


def as_table(rows: Sequence[Row], most: float) -> str:
    seen = any(row.saw is not None for row in rows)
    heads = ["#", "change", "made by", "the plan said", "the deploy"]
    heads += [*(["the guest saw another"] if seen else []), "downtime promised", "measured"]
    lines = [f"| {' | '.join(heads)} |", "| --- " * len(heads) + "|"]
    for number, row in enumerate(rows, 1):
        promised = "none" if not row.restarts else "unknown" if row.promised is None else f"{row.promised:.1f} s"
        measured = f"{row.measured:.1f} s" if row.restarted or away(row, most) else "none"
        plan = row.plan.replace("|", r"\|").replace("`", "")
        cells = [str(number), row.title, row.by, f"`{plan}`", row.did]
        cells += [", ".join(sorted(row.saw or ())) or "nothing"] if seen else []
        lines.append(f"| {' | '.join([*cells, promised, measured])} |")
    return "\n".join(lines)


def publish(name: str, rows: Sequence[Row], most: float = AWAY) -> None:
    """Print the table. It is what the page has, except for seconds; or write it there, if the environment says so."""
    text = as_table(rows, most)
    sys.stdout.write(f"\n{text}\n")
    page = PAGE.read_text(encoding="utf-8")
    if os.environ.get(WRITE) == "1":
        PAGE.write_text(page.replace(on_page(name), text), encoding="utf-8")
    else:
        assert without_seconds(text) == without_seconds(on_page(name)), "run scripts/measure_changes, and look at it"


def on_page(name: str) -> str:
    """The table of that name, as the page has it."""
    found = re.search(
        rf"<!-- measured: {name} -->\n(.*?)\n<!-- end: {name} -->", PAGE.read_text(encoding="utf-8"), re.S
    )
    assert found is not None, f"{PAGE.name} has no table {name}"
    return found[1]


def without_seconds(text: str) -> list[str]:
    """What the clock of a run does not decide."""
    return re.sub(r"[0-9.]+ (s|min)\b( [0-9.]+ s)?", "N s", text).splitlines()
