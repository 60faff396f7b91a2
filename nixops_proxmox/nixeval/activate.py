"""Scripts for the guest that make a system the current one, and what their output means.

The scripts are POSIX sh, and a broken connection does no harm: the switch runs in a session of its own, and while it
has not ended well `/run/nixops-proxmox/activating` stands. A system that is current but half activated is not active.
"""

import re
import shlex
from dataclasses import dataclass
from typing import Protocol

from nixops_proxmox.errors import ActivationFailed
from nixops_proxmox.model import Completed
from nixops_proxmox.spelling import Verb, command
from nixops_proxmox.texts import script_marker, tail

PROFILE = "/nix/var/nix/profiles/system"
TIMEOUT = 1800.0  # seconds; restarting services may take its time
NEEDS_REBOOT = 100  # switch-to-configuration: the new init cannot take over from the running one (NixOS, NixOps)
# What switch-to-configuration says, with status 1 and nothing done, if a part differs that cannot change live
# (NixOS 26.05). `boot` takes the system all the same.
INHIBITED = "Pre-switch check .switchInhibitors. failed"
UNITS_FAILED = 4  # switch-to-configuration: switched, but some units did not come up (NixOS)

_ACTIVE = f"""\
{script_marker("active-system")}\
[ ! -e /run/nixops-proxmox/activating ] || exit 0
current=$(readlink -f /run/current-system) || exit 0
[ "$current" != "$(readlink -f {PROFILE})" ] || echo "$current"
"""

# What _ACTIVE looks at, each by name; then the services that are down, where systemd can tell.
_SEEN = f"""\
{script_marker("seen-system")}\
echo "current $(readlink -f /run/current-system)"
echo "next $(readlink -f {PROFILE})"
run=/run/nixops-proxmox
[ ! -e "$run/activating" ] || echo "half $(cat "$run/activating")"
if pid=$(cat "$run/activation.pid" 2>/dev/null) && [ -n "$pid" ] && kill -0 "$pid" 2>/dev/null; then echo working; fi
[ "$(cat "$run/probation/state" 2>/dev/null)" != waiting ] || echo probation
systemctl list-units --failed --plain --no-legend --no-pager 2>/dev/null |
  while read -r unit _; do echo "down $unit"; done
exit 0
"""

_SWITCH = """\
run=/run/nixops-proxmox
mkdir -p "$run" && chmod 700 "$run" || exit 1
# An activation that outlived the connection which began it is let finish first.
while pid=$(cat "$run/activation.pid" 2>/dev/null) && [ -n "$pid" ] && kill -0 "$pid" 2>/dev/null; do sleep 0.2; done
{choose} || exit 1
system=$(readlink -f {profile}) || exit 1
echo "$system" >"$run/activating" || exit 1
setsid sh -c '
  "$1/bin/switch-to-configuration" switch
  status=$?
  if [ "$status" -eq 1 ] && grep -q "{inhibited}" "$2/activation.log"; then
    "$1/bin/switch-to-configuration" boot && status={needs_reboot}
  fi
  [ "$status" -ne 0 ] || rm -f "$2/activating"
  rm -f "$2/activation.pid"
  exit "$status"
' activation "$system" "$run" </dev/null >"$run/activation.log" 2>&1 &
job=$!
echo "$job" >"$run/activation.pid"
wait "$job"
status=$?
rm -f "$run/activation.pid"
cat "$run/activation.log"
echo "nixops-proxmox: generation $(readlink {profile})"
exit "$status"
"""


class ScriptShell(Protocol):
    """As much of a way into a guest as activation needs."""

    def run(self, script: str, *, stdin: bytes = b"", timeout: float = 60) -> Completed: ...


@dataclass(frozen=True)
class Activated:
    """The generation that is current now; `needs_reboot`: it takes effect only then. `output` is its own words."""

    generation: int
    needs_reboot: bool = False
    output: str = ""


def active_script() -> str:
    """Prints the active system's store path: current, fully activated, and what the next boot takes; else nothing."""
    return _ACTIVE


def seen_script() -> str:
    """Prints a line for each thing that makes a system active or not; see `explain_inactive`."""
    return _SEEN


def explain_inactive(text: str, wanted: str) -> str:
    """Why the wanted system does not count as active, of what `seen_script` printed."""
    lines = [line.partition(" ") for line in text.splitlines()]
    seen = {word: rest for word, _, rest in lines}
    down = [rest for word, _, rest in lines if word == "down"]
    if "working" in seen:
        return f"{seen.get('half') or 'a system'} is being activated right now"
    if "probation" in seen and "half" in seen:
        return f"{seen['half']} is on probation, and waits to be confirmed"
    if half := seen.get("half"):
        why = f": these services failed: {', '.join(down)}" if down else ", though no service is down any more"
        return f"{half} is active, but its activation failed{why}"
    current, following = seen.get("current", ""), seen.get("next", "")
    if current == wanted and following != wanted:
        return f"{current} is active, but the next boot takes {following or 'an unknown system'}"
    return f"{current or 'an unknown system'} is active, and {wanted} is wanted"


def activate_script(system: str) -> str:
    """Make `system` the next generation (none is added if it is the current one) and switch to it."""
    choose = shlex.join(["nix-env", "-p", PROFILE, "--set", system])
    return script_marker("activate", system) + _switch(choose)


def rollback_script(generation: int | None = None) -> str:
    """Go back to `generation`, or to the one before the current one, and switch to it."""
    how = ["--rollback"] if generation is None else ["--switch-generation", str(generation)]
    marker = script_marker("roll-back", *how[1:])
    return marker + _switch(shlex.join(["nix-env", "-p", PROFILE, *how]))


def _switch(choose: str) -> str:
    return _SWITCH.format(choose=choose, profile=PROFILE, inhibited=INHIBITED, needs_reboot=NEEDS_REBOOT)


def generations_script() -> str:
    """Prints `NUMBER STORE-PATH` for each generation, and `current NAME-OF-LINK`."""
    return f"""{script_marker("generations")}\
for link in {PROFILE}-*-link; do
  [ -L "$link" ] || continue
  number=${{link#{PROFILE}-}}
  echo "${{number%-link}} $(readlink -f "$link")"
done
echo "current $(readlink {PROFILE})"
"""


def parse_activation(done: Completed, machine: str) -> Activated:
    """What became of a switch; raises ActivationFailed with what it said last."""
    found = re.search(r"^nixops-proxmox: generation (?:.*/)?system-(\d+)-link$", done.stdout, re.MULTILINE)
    output = re.sub(r"^nixops-proxmox: generation .*\n?", "", done.stdout, flags=re.MULTILINE).strip()
    if done.status in (0, NEEDS_REBOOT) and found:
        return Activated(int(found[1]), done.status == NEEDS_REBOOT, output)
    words = "\n".join(text for text in (tail(output, 2000), tail(done.stderr.strip(), 2000)) if text)
    what, hint = _explain(done.status) if found else ("it could not be made the current generation", "")
    raise ActivationFailed(f"{machine}: the new system: {what}\n{words}".rstrip(), hint=hint)


def _explain(status: int) -> tuple[str, str]:
    """What happened, and what to try."""
    if status == UNITS_FAILED:
        return (
            "it is active, but some of its services did not start",
            f"look at them with `systemctl --failed` in the guest; {command(Verb.DEPLOY)} activates again",
        )
    return (
        f"the activation ended with status {status}",
        "its log is /run/nixops-proxmox/activation.log in the guest; to go back, undo the change in the description,"
        f" then run {command(Verb.DEPLOY)}",
    )


def parse_generations(text: str) -> dict[int, str]:
    """Store path by generation number; lines that are something else are passed over."""
    found = re.findall(r"^(\d+) (/\S+)$", text, re.MULTILINE)
    return dict(sorted((int(number), system) for number, system in found))


def find_generation_before(text: str) -> int | None:
    """The generation before the current one, of what `generations_script` printed; None: it cannot be told."""
    current = re.search(r"^current (?:.*/)?system-(\d+)-link$", text, re.MULTILINE)
    older = [number for number in parse_generations(text) if current and number < int(current[1])]
    return max(older, default=None)


def find_active_system(shell: ScriptShell) -> str:
    """The store path of the guest's active system, or an empty string."""
    return shell.run(active_script()).stdout.strip()


def find_inactive_reason(shell: ScriptShell, wanted: str) -> str:
    """Why the wanted system is not the guest's active one, in a sentence."""
    return explain_inactive(shell.run(seen_script()).stdout, wanted)


def activate_system(system: str, shell: ScriptShell, *, machine: str, timeout: float = TIMEOUT) -> Activated:
    return parse_activation(shell.run(activate_script(system), timeout=timeout), machine)


def roll_back(
    shell: ScriptShell, *, machine: str, generation: int | None = None, timeout: float = TIMEOUT
) -> Activated:
    return parse_activation(shell.run(rollback_script(generation), timeout=timeout), machine)
