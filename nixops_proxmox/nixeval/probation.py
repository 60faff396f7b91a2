"""Scripts for the guest that take a system into use on probation, and what their output means.

A supervisor in the guest switches with NixOS's `test`, which changes nothing that boots. Then it waits for our word. If
we confirm, it makes the system the next generation and the one that boots. In every other case it goes back to exactly
the system before: if we refuse, if the time is over, or if the activation fails. So does a boot, of any cause.

The supervisor outlives the connection and us, and one that was killed is started again and goes on. If two are started,
one waits for the other's end: a start that seemed to fail may have succeeded. The first to make the link `decision` has
decided.
"""

import re
import shlex
from collections.abc import Mapping

from nixops_proxmox.errors import ActivationFailed
from nixops_proxmox.model import Completed, Probation, ProbationState
from nixops_proxmox.nixeval.activate import INHIBITED, NEEDS_REBOOT, PROFILE, TIMEOUT, UNITS_FAILED, ScriptShell
from nixops_proxmox.spec import DeploySpec
from nixops_proxmox.texts import head, script_marker, tail

ANSWER = 30.0  # seconds for the answer to a script that waits for nothing longer than `BRIEF`
BRIEF = 5  # seconds that a script waits in the guest: a network that the new system broke must be noticed soon
NOTHING_BEFORE = 76  # the status of a guest that has no system to go back to
LONGEST = 4000  # characters of a log that we keep
BUSY = 77  # … of a guest where another activation is still at work
UNIT = "nixops-proxmox-probation"  # the supervisor's, where there is systemd
_HEAD = "nixops-proxmox-probation 1"
_WORD = re.compile(r"[A-Za-z0-9@:_.\\-]{1,255}")

# The guest's own, in a file. It is run again if it was killed, and goes on by what `state` says.
_SUPERVISOR = """\
at=/run/nixops-proxmox/probation marker=/run/nixops-proxmox/activating profile={profile}
roots=/nix/var/nix/gcroots/nixops-proxmox
get() {{ cat "$at/$1" 2>/dev/null; }}
# Who sees the end of a probation may begin the next: when it is told, nothing is left to be done.
end() {{ rm -rf "$roots"; put state "$1"; }}
put() {{ printf '%s\\n' "$2" >"$at/$1.new" && mv "$at/$1.new" "$at/$1"; }}
now() {{ read -r up _ </proc/uptime; echo "${{up%%.*}}"; }}
failed() {{
  systemctl list-units --failed --plain --no-legend --no-pager 2>/dev/null | while read -r u _; do echo "$u"; done
}}
is_old() {{ while read -r old; do [ "$old" != "$1" ] || return 0; done <"$at/failed-before"; return 1; }}
# The units that failed, and had not before.
news() {{ for u in $1; do is_old "$u" || printf '%s ' "$u"; done; }}
works() {{ grep -qs '^State:[[:space:]]*[^ZX[:space:]]' "/proc/$1/status"; }}
# run SYSTEM ACTION: what a killed supervisor left at work is let finish first. Nothing works for longer than the limit.
run() {{
  limit=$(($(now) + {timeout}))
  while pid=$(get switch.pid) && works "$pid"; do
    [ "$(now)" -lt "$limit" ] || kill -9 "$pid"
    sleep 0.2
  done
  sh -c 'echo $$ >"$1/switch.pid"; cd / && exec "$2/bin/switch-to-configuration" "$3"' switch "$at" "$1" "$2" \\
    </dev/null >>"$at/log" 2>&1 9>&- &
  job=$!
  while works "$job"; do
    [ "$(now)" -lt "$limit" ] || kill -9 "$job"
    sleep 0.1
  done
  wait "$job"
  code=$?
  rm -f "$at/switch.pid"
  return "$code"
}}
revert() {{
  [ -e "$at/why" ] || put why "$1"
  put state reverting
}}
choose() {{ sh "$at/choose" >>"$at/log" 2>&1 9>&-; }}

PATH=$(get previous)/sw/bin:$PATH
export PATH
# One at a time. What a killed one left at work does not hold the lock: `run` waits for that.
exec 9>/run/nixops-proxmox/probation.lock
flock 9
# It works in its own folder, and so never in that of the next probation, which is put in its place.
cd "$at" || exit 0
at=.
echo $$ >"$at/pid"
system=$(get system) previous=$(get previous)
while :; do
  case $(get state) in
  switching)
    run "$system" test
    code=$?
    put status "$code"
    if [ "$code" -eq {needs_reboot} ] || {{ [ "$code" -eq 1 ] && grep -q "{inhibited}" "$at/log"; }}; then
      if choose && run "$system" boot; then
        put became "$(readlink "$profile")"
        end next-boot
      else
        revert "it could not be made the one that boots"
      fi
      continue
    fi
    down=$(failed)
    fresh=$(news "$down")
    put units "$fresh"
    if [ "$code" -eq 0 ]; then put state waiting
    elif [ "$code" -ne {units_failed} ]; then revert "its activation ended with status $code"
    elif [ "$(get policy)" = accept ] || {{ [ -n "$down" ] && [ -z "$fresh" ]; }}; then put state waiting
    else revert "it is active, but some of its services did not start${{fresh:+: $fresh}}"
    fi ;;
  waiting)
    [ -e "$at/deadline" ] || put deadline $(($(now) + $(get seconds)))
    while [ ! -L "$at/decision" ]; do
      [ "$(now)" -lt "$(get deadline)" ] || ln -s expired "$at/decision" 2>/dev/null
      sleep 0.2
    done
    case $(readlink "$at/decision") in
    confirmed) put state committing ;;
    refused) revert "$(get refusal)" ;;
    *) revert "no confirmation came within $(get seconds) s" ;;
    esac ;;
  committing)
    if choose && run "$system" boot; then
      put became "$(readlink "$profile")"
      rm -f "$marker"
      end confirmed
    else
      revert "it could not be made the one that boots"
    fi ;;
  reverting)
    action=test
    if [ "$(readlink "$profile")" != "$(get profile)" ]; then
      ln -sfn "$(get profile)" "$profile.before" && mv -T "$profile.before" "$profile"
      action=switch
    fi
    run "$previous" "$action"
    code=$?
    put back "$code"
    fresh=$(news "$(failed)")
    if [ "$(readlink -f /run/current-system)" != "$previous" ]; then end stuck
    else
      if [ "$code" -eq 0 ] || {{ [ "$code" -eq {units_failed} ] && [ -z "$fresh" ]; }}; then rm -f "$marker"
      else echo "$previous" >"$marker"
      fi
      end reverted
    fi ;;
  *) break ;;
  esac
done
rm -f "$at/pid"
"""

# Starts it, unless it is at work: as a unit of systemd's, which starts it again if it is killed, or in a session of its
# own below a process that does. A systemd that executes itself again may start the unit and not answer.
_START = f"""\
at=/run/nixops-proxmox/probation
# The process whose number is in that file, if it is still ours, and no zombie.
lives() {{
  pid=$(cat "$at/$1" 2>/dev/null) && [ -n "$pid" ] &&
    grep -qs '^State:[[:space:]]*[^ZX[:space:]]' "/proc/$pid/status" &&
    grep -qs nixops-proxmox/probation "/proc/$pid/cmdline"
}}
is_alive() {{ lives pid; }}
state() {{ cat "$at/state" 2>/dev/null; }}
is_over() {{ case $(state) in confirmed | reverted | stuck | next-boot) return 0 ;; esac; return 1; }}
start() {{
  for _ in 1 2 3 4 5; do
    if is_alive || lives keeper; then return; fi
    [ -d /run/systemd/system ] && command -v systemd-run >/dev/null || break
    case $(systemctl show --property=ActiveState --value {UNIT} 2>/dev/null) in active | activating) return ;; esac
    systemd-run --quiet --collect --unit={UNIT} --property=Type=exec --property=Restart=on-failure \\
      --property=RestartSec=3 --setenv=PATH="$PATH" "$(command -v sh)" "$at/supervisor" && return
    sleep 1
  done
  setsid sh -c 'cd "$1" && echo $$ >keeper; until sh "$1/supervisor"; do sleep 1; done; rm -f keeper' probation "$at" \
    </dev/null >/dev/null 2>&1 &
}}
# wait_while TIMES STATE...: until its state is none of these, or TIMES looks were made (0: no limit). A supervisor that
# does not live is waited for as long as its start takes.
wait_while() {{
  dead=0 looks=$1
  shift
  while :; do
    looks=$((looks - 1))
    [ "$looks" -ne 0 ] || return
    case " $* " in *" $(state) "*) ;; *) return ;; esac
    if is_alive; then dead=0; else dead=$((dead + 1)); fi
    [ "$dead" -lt 50 ] || return
    sleep 0.2
  done
}}
report() {{
  [ -e "$at/id" ] || {{ echo "{_HEAD}"; echo "boot $(cat /proc/sys/kernel/random/boot_id)"; return; }}
  echo "{_HEAD}"
  for name in id state system previous status became back; do
    [ ! -e "$at/$name" ] || echo "$name $(head -n 1 "$at/$name")"
  done
  for name in units why; do
    [ ! -e "$at/$name" ] || echo "$name $(head -c 1000 "$at/$name" | tr '\\n' ' ')"
  done
  echo "boot $(cat /proc/sys/kernel/random/boot_id)"
  ! is_alive || echo "alive yes"
  [ "$(readlink "$at/decision")" != refused ] || echo "refused yes"
  read -r up _ </proc/uptime
  [ ! -e "$at/deadline" ] || echo "left $(($(cat "$at/deadline") - ${{up%%.*}}))"
  echo log
  tail -c {LONGEST} "$at/log" 2>/dev/null
}}
"""

_BEGIN = """\
run=/run/nixops-proxmox roots=/nix/var/nix/gcroots/nixops-proxmox
mkdir -p "$run" && chmod 700 "$run" || exit 1
# An activation that outlived the connection which began it is let finish first.
looks=0
while pid=$(cat "$run/activation.pid" 2>/dev/null) && [ -n "$pid" ] && kill -0 "$pid" 2>/dev/null; do
  looks=$((looks + 1))
  [ "$looks" -lt {looks} ] || exit {busy}
  sleep 0.2
done
if [ -d "$at" ] && ! is_over && [ "$(cat "$at/id")" != {number} ]; then
  echo "another probation is under way" >&2
  exit 75
fi
previous=$(readlink -f /run/current-system) && [ -x "$previous/bin/switch-to-configuration" ] || exit 76
[ -x {system}/bin/switch-to-configuration ] || {{ echo "it is not in the store of the guest" >&2; exit 1; }}
if [ "$(cat "$at/id" 2>/dev/null)" != {number} ]; then
  new=$run/probation.new
  rm -rf "$new" && mkdir "$new" || exit 1
  printf '%s\\n' {number} >"$new/id"
  printf '%s\\n' {system} >"$new/system"
  printf '%s\\n' {choose} >"$new/choose"
  printf '%s\\n' {seconds} >"$new/seconds"
  printf '%s\\n' {policy} >"$new/policy"
  printf '%s\\n' "$previous" >"$new/previous"
  readlink {profile} >"$new/profile"
  systemctl list-units --failed --plain --no-legend --no-pager 2>/dev/null |
    while read -r unit _; do echo "$unit"; done >"$new/failed-before"
  cat >"$new/supervisor" <<'END-OF-SUPERVISOR'
{supervisor}END-OF-SUPERVISOR
  mkdir -p "$roots" && ln -sfn {system} "$roots/probation" && ln -sfn "$previous" "$roots/previous" || exit 1
  printf '%s\\n' {system} >"$run/activating" || exit 1
  echo switching >"$new/state" || exit 1
  rm -rf "$at" && mv "$new" "$at" || exit 1
fi
start
wait_while {looks} switching
report
"""

_DECIDE = """\
[ "$(cat "$at/id" 2>/dev/null)" = {number} ] || {{ report; exit 0; }}
is_over || start
{refusal}
ln -s {word} "$at/decision" 2>/dev/null
wait_while 0 switching waiting committing reverting
report
"""


def begin_script(
    system: str,
    number: str,
    *,
    seconds: int,
    policy: str,
    generation: int | None = None,
    limit: int | None = None,
) -> str:
    """Take `system` into use on probation, which `number` tells from others. `generation`: it becomes no new one.
    `limit`: seconds that an activation may take."""
    how = ["--set", system] if generation is None else ["--switch-generation", str(generation)]
    told = _BEGIN.format(
        number=shlex.quote(number),
        system=shlex.quote(system),
        choose=shlex.quote(shlex.join(["nix-env", "-p", PROFILE, *how])),
        seconds=seconds,
        policy=shlex.quote(policy),
        profile=PROFILE,
        looks=BRIEF * 5,
        busy=BUSY,
        supervisor=_SUPERVISOR.format(
            profile=PROFILE,
            inhibited=INHIBITED,
            needs_reboot=NEEDS_REBOOT,
            units_failed=UNITS_FAILED,
            timeout=int(TIMEOUT if limit is None else limit),
        ),
    )
    rest = how if generation is not None else []
    marker = script_marker("probation-begin", number, system, str(seconds), policy, *rest)
    return marker + _START + told


def find_script() -> str:
    """Prints what the guest knows of its last probation since it booted."""
    return script_marker("probation-find") + _START + "report\n"


def confirm_script(number: str) -> str:
    """Confirm that probation, if it waits, and wait until it is over."""
    told = _DECIDE.format(number=shlex.quote(number), word="confirmed", refusal=":")
    return script_marker("probation-confirm", number) + _START + told


def refuse_script(number: str, why: str) -> str:
    """Refuse that probation, if it waits, and wait until the system before is back."""
    why = head(" ".join(why.split()), 500)
    refusal = f"""printf '%s\\n' {shlex.quote(why)} >"$at/refusal" """
    told = _DECIDE.format(number=shlex.quote(number), word="refused", refusal=refusal)
    return script_marker("probation-refuse", number, why) + _START + told


def parse_probation(done: Completed) -> Probation | None:
    """What a report says. None if the guest said something else."""
    first, _, rest = done.stdout.partition("\n")
    if first != _HEAD:
        return None
    lines, _, log = rest.partition("\nlog\n")
    said = dict(line.partition(" ")[::2] for line in lines.splitlines())
    return Probation(
        number=_word(said, "id"),
        state=_state(said),
        system=head(said.get("system", ""), 500),
        previous=head(said.get("previous", ""), 500),
        status=_number(said, "status"),
        back=_number(said, "back"),
        generation=_generation(said.get("became", "")),
        units=tuple(unit for unit in said.get("units", "").split() if _WORD.fullmatch(unit)),
        why=head(" ".join(said.get("why", "").split()), 1000),
        boot=_word(said, "boot"),
        alive=said.get("alive") == "yes",
        refused=said.get("refused") == "yes",
        left=_number(said, "left"),
        log=tail(log.strip(), LONGEST),
    )


def _word(said: Mapping[str, str], name: str) -> str:
    found = said.get(name, "")
    return found if _WORD.fullmatch(found) else ""


def _state(said: Mapping[str, str]) -> ProbationState:
    try:
        return ProbationState(said.get("state", ""))
    except ValueError:
        return ProbationState.NONE


def _number(said: Mapping[str, str], name: str) -> int:
    found = said.get(name, "")
    return int(found) if re.fullmatch(r"-?[0-9]{1,6}", found) else 0


def _generation(link: str) -> int:
    found = re.fullmatch(r"(?:.*/)?system-([0-9]{1,9})-link", link)
    return int(found[1]) if found else 0


def begin_probation(
    system: str, shell: ScriptShell, number: str, deploy: DeploySpec, generation: int | None = None
) -> Probation | None:
    """Ends when the system is active, or is not going to be, or is still switching after some seconds. See
    `begin_script`. None: the guest runs nothing to go back to. Raises ActivationFailed if it could not be begun, and
    ConnectionLost if no answer came in time."""
    script = begin_script(system, number, seconds=deploy.probation, policy=deploy.failed_units, generation=generation)
    done, tries = shell.run(script, timeout=ANSWER), int(TIMEOUT) // BRIEF
    while done.status == BUSY and tries:
        done, tries = shell.run(script, timeout=ANSWER), tries - 1
    if done.status == NOTHING_BEFORE:
        return None
    seen = parse_probation(done)
    if seen is None:
        words = tail(f"{done.stdout}\n{done.stderr}".strip(), 2000)
        raise ActivationFailed(f"the new system: its probation could not be begun\n{words}".rstrip())
    return seen


def find_probation(shell: ScriptShell) -> Probation | None:
    return parse_probation(shell.run(find_script()))


def confirm_probation(shell: ScriptShell, number: str) -> Probation | None:
    return parse_probation(shell.run(confirm_script(number), timeout=TIMEOUT))


def refuse_probation(shell: ScriptShell, number: str, why: str) -> Probation | None:
    return parse_probation(shell.run(refuse_script(number, why), timeout=TIMEOUT))
