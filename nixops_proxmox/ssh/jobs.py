"""Detached jobs in a guest, over whatever runs scripts there: started once, found again, waited for.

A job is a folder in /run (so that it belongs to one boot): `script`, `log`, `pid` ("PID STARTTIME" of the session
leader) and, at the end, `status`. Making the folder is the claim, and mkdir is atomic: there is never a second one.
"""

import re
import shlex
from collections.abc import Callable
from time import monotonic, sleep
from typing import Protocol

from nixops_proxmox.errors import CommandFailed, ConnectionLost, JobStillRunning, SshUnreachable
from nixops_proxmox.model import Completed, Job, JobPhase
from nixops_proxmox.texts import after_cut, script_marker, tail

DIRECTORY = "/run/nixops-proxmox/jobs"
HEADER = "nixops-proxmox-job"
TAIL = 4096  # bytes of the log
ANSWER = 20.0  # seconds for one answer of many, while waiting: a guest that died in between says nothing any more


class RunScript(Protocol):
    """Runs a script in the guest, as `Session.run` does."""

    def __call__(self, script: str, *, stdin: bytes = b"", timeout: float = 60) -> Completed: ...


def start_script(name: str, size: int, directory: str = DIRECTORY) -> str:
    """Start job `name`, whose script of `size` bytes comes by stdin. Does nothing if there is one of that name."""
    return f"""{script_marker("job-start", name)}set -u
umask 077
job={_job_path(name, directory)}
[ -d "$job" ] && {{ cat >/dev/null; exit 0; }}
mkdir -p {shlex.quote(directory)} || exit 1
new="$job.new.$$"
cat > "$new" || exit 1
# A connection that broke on the way leaves half a script: nothing is claimed, nothing runs.
[ $(wc -c < "$new") -eq {size} ] || {{ rm -f "$new"; echo "the script did not arrive whole" >&2; exit 1; }}
if mkdir "$job" 2>/dev/null; then
  mv "$new" "$job/script"
  setsid /bin/sh -c {shlex.quote(_runner())} nixops-proxmox-job "$job" </dev/null >/dev/null 2>&1 &
  n=0
  while [ ! -e "$job/pid" ] && [ $n -lt 50 ]; do n=$((n+1)); sleep 0.1; done
  [ -e "$job/pid" ] || {{ echo "the job did not start" >&2; exit 1; }}
else
  rm -f "$new"
fi
"""


def _runner() -> str:
    return r"""
cd /
read -r stat < "/proc/$$/stat"
job=$1
set -- ${stat##*) }
shift 19
echo "$$ $1" > "$job/pid.new" && mv "$job/pid.new" "$job/pid"
( umask 022; exec /bin/sh "$job/script" ) > "$job/log" 2>&1
echo $? > "$job/status.new" && mv "$job/status.new" "$job/status"
"""


def find_script(name: str, directory: str = DIRECTORY, *, tail: int = TAIL, patience: float = 0) -> str:
    """Tell how job `name` is: a line "nixops-proxmox-job PHASE STATUS", then the end of its log. Where
    that is not all of it, the line ends in " cut".

    With `patience` it looks again for so many seconds while the job runs (a poll that waits at the far end).
    """
    return f"""{script_marker("job-find", name, f"{patience:g}")}job={_job_path(name, directory)}
{_LOOK}
n=0
look
while [ $phase = running ] && [ $n -lt {int(patience * 5)} ]; do n=$((n+1)); sleep 0.2; look; done
status=0
[ $phase = done ] && read -r status < "$job/status"
cut=; [ -e "$job/log" ] && [ $(wc -c < "$job/log") -gt {tail} ] && cut=" cut"
echo "{HEADER} $phase $status$cut"
[ -e "$job/log" ] && tail -c {tail} "$job/log"
exit 0
"""


def discard_script(name: str, directory: str = DIRECTORY) -> str:
    """Set the record of job `name` aside, with its log. Fails while it runs."""
    return f"""{script_marker("job-discard", name)}job={_job_path(name, directory)}
{_LOOK}
look
[ $phase = absent ] && exit 0
[ $phase = running ] && {{ echo "it runs" >&2; exit 1; }}
mv "$job" "$job.old.$(date +%s).$$"
"""


# Sets `phase` of the job in the folder $job. It lives while its session's leader does (told by number and start time,
# for numbers are used again), or anything else in its session: the script goes on if only the runner was killed.
_LOOK = r"""alive() {
  # Claimed and not started: for a minute it may still start.
  [ -e "$job/pid" ] || { [ -n "$(find "$job" -maxdepth 0 -mmin -1 2>/dev/null)" ]; return; }
  read -r pid start < "$job/pid"
  for f in "/proc/$pid/stat" /proc/[0-9]*/stat; do
    { read -r stat < "$f"; } 2>/dev/null || continue
    set -- ${stat##*) }
    [ "$1" = Z ] && continue
    if [ "$f" = "/proc/$pid/stat" ]; then
      shift 19; [ "$1" = "$start" ] && return 0
      return 1
    fi
    [ "$4" = "$pid" ] && return 0
  done
  return 1
}
look() {
  if [ ! -d "$job" ]; then phase=absent
  elif [ -e "$job/status" ]; then phase=done
  elif alive; then phase=running
  elif [ -e "$job/status" ]; then phase=done
  else phase=vanished
  fi
}"""


def _job_path(name: str, directory: str) -> str:
    return shlex.quote(f"{directory}/{check_job_name(name)}")


def check_job_name(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", name):
        raise ValueError(f"not a name for a job: {name!r}")
    return name


def parse_job(text: str) -> Job:
    """What `find_script` printed. A login shell's own noise in front does not matter. Raises CommandFailed."""
    match = re.search(rf"^{HEADER} (absent|running|done|vanished) (\d{{1,3}})( cut)?$\n?", text, re.MULTILINE)
    if match is None:
        raise CommandFailed("the state of a job in the guest could not be read", status=0, output=tail(text, TAIL))
    log = text[match.end() :]
    return Job(JobPhase(match[1]), int(match[2]), after_cut(log) if match[3] else log)


def start_job(run: RunScript, name: str, script: str, directory: str = DIRECTORY) -> None:
    """Start it unless a job of that name exists. Safe to repeat after a ConnectionLost."""
    data = script.encode()
    done = run(start_script(name, len(data), directory), stdin=data, timeout=60)
    if done.status:
        raise CommandFailed(f"job {name} could not be started: {done.stderr.strip()}", status=done.status)


def find_job(run: RunScript, name: str, directory: str = DIRECTORY, *, patience: float = 0, limit: float = 60) -> Job:
    """`limit`: seconds for the answer, beyond the patience of the far end."""
    return parse_job(run(find_script(name, directory, patience=patience), timeout=patience + limit).stdout)


def discard_job(run: RunScript, name: str, directory: str = DIRECTORY) -> None:
    """Free the name of a job that is not running, if there is one."""
    done = run(discard_script(name, directory), timeout=60)
    if done.status:
        raise CommandFailed(f"job {name} cannot be set aside: {done.stderr.strip()}", status=done.status)


def wait_for_job(
    run: RunScript,
    name: str,
    *,
    timeout: float,
    tell: Callable[[str], None],
    directory: str = DIRECTORY,
    now: Callable[[], float] = monotonic,
    pause: Callable[[float], None] = sleep,
) -> Job:
    """Wait until the job is not running. `tell` gets the log's last line as it changes.

    A broken connection is no news about the job: it is looked for again until the time is over (`run` reconnects).
    Raises JobStillRunning when it is, and the connection's own error when the guest could not be asked.
    Safe to repeat: it only looks at the job.
    """
    deadline, told, patience = now() + timeout, "", 0.0
    while True:
        failure: ConnectionLost | SshUnreachable | None = None
        try:
            job = find_job(run, name, directory, patience=min(patience, max(0.0, deadline - now())), limit=ANSWER)
        except (ConnectionLost, SshUnreachable) as error:
            failure = error
            pause(min(2.0, max(0.05, patience)))
        else:
            line = last_line(job.log_tail)
            if line and line != told:
                told = line
                tell(line)
            if job.phase is not JobPhase.RUNNING:
                return job
        if now() >= deadline:
            raise failure or JobStillRunning(
                f"job {name} still runs after {timeout:g} s; it last said: {told or 'nothing'}",
                hint="run the same command again: it waits for the running job",
            )
        patience = min(5.0, patience + 1.0)


def last_line(log: str) -> str:
    """The last line with something on it. Of one that is written over (a progress bar), what is seen."""
    lines = [part.strip() for line in log.splitlines() for part in line.split("\r") if part.strip()]
    return lines[-1] if lines else ""
