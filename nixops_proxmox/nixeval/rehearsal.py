"""What an activation would do to the units of a machine that runs: NixOS's own `dry-activate`, asked in the guest.

It can be asked only where the system is in the guest's store. The answer is a stranger's text: it is worth nothing if
it names what can be no unit.
"""

import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

from nixops_proxmox.model import Completed
from nixops_proxmox.nixeval.activate import ScriptShell
from nixops_proxmox.texts import script_marker, tail_lines

TIMEOUT = 120.0  # seconds; it looks at every unit
LONGEST = 1 << 20  # bytes of an answer
ABSENT = "absent"  # the guest's whole answer where the system is not in its store
_BOOTED = "nixops-proxmox: booted"  # ends what the guest says of the system that it was booted with
_STATUS = "nixops-proxmox: status "

# A POSIX script: it begins nothing, and the lists that NixOS keeps for the next switch stay as they are.
_REHEARSE = """\
for part in kernel initrd kernel-modules; do
  link=$(readlink "/run/booted-system/$part") && echo "booted $part $link"
done
params=$(head -c 4096 /run/booted-system/kernel-params 2>/dev/null) && echo "booted kernel-params $params"
echo "{booted}"
system={system}
if ! nix-store --check-validity "$system" 2>/dev/null || [ ! -x "$system/bin/switch-to-configuration" ]; then
  echo {absent}
  exit 0
fi
{{
  "$system/bin/switch-to-configuration" dry-activate </dev/null 2>&1
  printf '\\n{status}%s\\n' "$?"
}} | tail -c {longest}
"""

_VERBS = "stop|restart|reload|start|NOT stop|NOT restart"
_LINE = re.compile(rf"would ({_VERBS}) the following (?:changed )?(user )?units(?: as well)?: (.*)")
_SYSTEMD = "would restart systemd"
_ACTIVATES = "would activate the configuration..."  # NixOS says so whatever else it says
_TYPES = "service|socket|device|mount|automount|swap|target|path|timer|slice|scope"
_UNIT = re.compile(rf"[A-Za-z0-9:_.\\@-]{{1,230}}\.(?:{_TYPES})")


@dataclass(frozen=True)
class Units:
    """By name, sorted. `restarts` are stopped and started again, `keeps` run on although they have changed. After the
    name of a logged-in user's unit stands ` (user)`."""

    restarts: tuple[str, ...] = ()
    stops: tuple[str, ...] = ()
    reloads: tuple[str, ...] = ()
    starts: tuple[str, ...] = ()
    keeps: tuple[str, ...] = ()


@dataclass(frozen=True)
class Rehearsal:
    """`units` None: they are unknown, and `why` says in a sentence why. `absent`: because the system is not there.
    `booted`: what the machine was booted with, as `boots.read_boots` names it; empty: that is unknown."""

    units: Units | None
    why: str = ""
    absent: bool = False
    booted: Mapping[str, str] = field(default_factory=dict)


def rehearse_script(system: str) -> str:
    return script_marker("rehearse", system) + _REHEARSE.format(
        system=shlex.quote(system), absent=ABSENT, booted=_BOOTED, status=_STATUS, longest=LONGEST
    )


def rehearse(system: str, shell: ScriptShell) -> Rehearsal:
    """Ask the guest. Raises what the way into it raises."""
    return parse_rehearsal(shell.run(rehearse_script(system), timeout=TIMEOUT))


def parse_rehearsal(done: Completed) -> Rehearsal:
    """What the guest's answer means."""
    about, booted, answer = done.stdout.partition(f"{_BOOTED}\n")
    if not booted:
        return _parse_answer(done.stdout)
    return replace(_parse_answer(answer), booted=dict(re.findall(r"^booted ([a-z-]+) (.+)$", about, re.MULTILINE)))


def _parse_answer(answer: str) -> Rehearsal:
    if answer.strip() == ABSENT:
        return Rehearsal(None, "the new system is not on the machine", absent=True)
    said, _, status = answer.rstrip("\n").rpartition(f"\n{_STATUS}")
    if status != "0":
        (last,) = tail_lines((said if status.isdecimal() else answer).strip().splitlines(), 1)
        return Rehearsal(None, f"the new system's dry-activate failed: {last or 'it said nothing'}")
    lines = said.splitlines()
    found = list(_find_units(lines))
    if not found and _ACTIVATES not in lines:
        return Rehearsal(None, "the new system's dry-activate does not name units")
    if not all(_UNIT.fullmatch(name) for _, name, _ in found):
        return Rehearsal(None, "the new system's dry-activate names units that cannot be")
    told = [(verb, f"{name} (user)" if user else name) for verb, name, user in found]
    return Rehearsal(_sort(told, systemd=_SYSTEMD in lines))


def _find_units(lines: list[str]) -> Iterator[tuple[str, str, bool]]:
    """(what is done to it, its name, whether it is a user's)"""
    for line in lines:
        if named := _LINE.fullmatch(line):
            verb, user, names = named.groups()
            yield from ((verb, name, bool(user)) for name in names.split(", "))


def _sort(told: list[tuple[str, str]], *, systemd: bool) -> Units:
    """By what becomes of them: most units that change are first stopped, and then started."""
    by: dict[str, set[str]] = {}
    for verb, name in told:
        by.setdefault("keep" if verb.startswith("NOT") else verb, set()).add(name)
    stops, starts = by.get("stop", set()), by.get("start", set())
    restarts = by.get("restart", set()) | (stops & starts) | ({"systemd"} if systemd else set())
    sets = (restarts, stops - restarts, by.get("reload", set()), starts - restarts, by.get("keep", set()))
    return Units(*(tuple(sorted(one)) for one in sets))
