"""What of a system waits for a boot of the machine that runs: asked in the guest, changing nothing."""

import re
import shlex
from pathlib import Path

from nixops_proxmox.model import Awaiting, Completed
from nixops_proxmox.nixeval.activate import ScriptShell
from nixops_proxmox.nixeval.boots import INHIBITORS, INIT, LINKS, PARAMETERS, find_later, find_refusals, read_boots
from nixops_proxmox.texts import script_marker

# A POSIX script. What a boot takes up is held against the booted system; what refuses a switch, against the one that
# runs now. What stands in a file is told as one line.
_LOOK = """\
system={system}
echo "boot - $(cat /proc/sys/kernel/random/boot_id)"
for part in {links}; do
  link=$(readlink "/run/booted-system/$part") && echo "now $part $link"
  link=$(readlink "$system/$part") && echo "next $part $link"
done
tell() {{
  [ ! -r "$3/$2" ] || echo "$1 $2 $(head -c 65536 "$3/$2" | tr '\\n' ' ')"
}}
tell now {parameters} /run/booted-system
for text in {texts}; do tell now "$text" /run/current-system; done
for text in {parameters} {texts}; do tell next "$text" "$system"; done
exit 0
"""
_SAID = re.compile(r"^(boot|now|next) ([a-z-]+) (.*)$", re.MULTILINE)


def awaiting_script(system: str) -> str:
    return script_marker("awaiting", system) + _LOOK.format(
        system=shlex.quote(system),
        links=" ".join(LINKS),
        parameters=PARAMETERS,
        texts=f"{INIT} {INHIBITORS}",
    )


def find_awaiting(system: str, shell: ScriptShell) -> Awaiting:
    """Ask the guest. What is in the store here is believed before what the guest says of its own. Raises what the way
    into it raises."""
    return parse_awaiting(shell.run(awaiting_script(system)), read_boots(Path(system)))


def parse_awaiting(done: Completed, known: dict[str, str]) -> Awaiting:
    """What the guest's answer means. `known`: of `read_boots`, where the system is here."""
    said: dict[str, dict[str, str]] = {"boot": {}, "now": {}, "next": {}}
    for word, name, value in _SAID.findall(done.stdout):
        said[word][name] = value.strip()
    after = said["next"] | {name: " ".join(value.split("\n")).strip() for name, value in known.items()}
    later, refused = find_later(said["now"], after), find_refusals(said["now"], after)
    return Awaiting(said["boot"].get("-", ""), later, refused)
