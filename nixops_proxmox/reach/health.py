"""Whether a system is well: what its user declared as health, asked from here and in the guest. And what it says."""

import re
import shlex
import socket
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from nixops_proxmox.errors import ConnectionLost, DeployError
from nixops_proxmox.guest.agent import Agent
from nixops_proxmox.kinds.machine.ports import Voice
from nixops_proxmox.model import Completed
from nixops_proxmox.spec import HealthSpec, HttpCheck
from nixops_proxmox.ssh.argv import bracketed
from nixops_proxmox.ssh.login import SshLogin
from nixops_proxmox.texts import head, script_marker, shown_line, tail

if TYPE_CHECKING:
    import paramiko

TIME = 5.0  # seconds for a connection, and for an answer
COMMAND_TIME = 30.0
COMPLAINTS_TIME = 15.0
LONGEST = 300  # characters of what a command says

# Which units failed, where systemd can tell, and what sshd said last.
COMPLAINTS = (
    script_marker("complaints")
    + """\
systemctl list-units --failed --plain --no-legend --no-pager 2>/dev/null | while read -r unit _; do
  echo "$unit failed"
  journalctl --no-pager --quiet --output=cat --lines=3 --unit="$unit" 2>/dev/null
done
if ! systemctl is-active --quiet sshd.service >/dev/null 2>&1; then
  echo "sshd is not active"
  journalctl --no-pager --quiet --output=cat --lines=5 --unit=sshd.service 2>/dev/null || tail -n 5 /var/log/sshd.log
fi
ip -brief address show scope global 2>/dev/null
exit 0
"""
)


class AgentVoice:
    """Scripts by the guest agent. Satisfies `kinds.machine.ports.Voice`."""

    def __init__(self, agent: Agent, may_act: Callable[[], None]) -> None:
        self._agent, self._may_act = agent, may_act

    def run(self, script: str, *, stdin: bytes = b"", timeout: float = 60) -> Completed:
        if stdin:
            raise ValueError("the agent's scripts get no input")
        self._may_act()
        return self._agent.run_script(script, timeout=timeout)


def find_ailments(health: HealthSpec, shell: Voice, login: SshLogin) -> list[str]:
    """What does not hold, a sentence each. ConnectionLost and SshUnreachable of the shell are raised."""
    return [*_units(health, shell), *_ports(health, login), *_answers(health, login), *_command(health, shell)]


def units_script(units: tuple[str, ...]) -> str:
    """Prints `UNIT STATE` for each of them that is not active."""
    return script_marker("health-units", *units) + (
        f"for unit in {shlex.join(units)}; do\n"
        '  state=$(systemctl is-active "$unit" 2>/dev/null) || echo "$unit ${state:-unknown}"\n'
        "done\n"
    )


def command_script(command: str) -> str:
    """The user's script in a shell of its own."""
    return script_marker("health-command") + f"exec sh -c {shlex.quote(command)}\n"


def _units(health: HealthSpec, shell: Voice) -> Iterator[str]:
    if not health.units:
        return
    done = shell.run(units_script(health.units))
    if done.status != 0:
        yield f"units: systemctl cannot be asked: {shown_line(tail(done.stderr.strip(), LONGEST))}"
    for line in done.stdout.splitlines():
        unit, _, state = line.partition(" ")
        if unit in health.units:
            yield f"{unit} is {shown_line(head(state, 40))}"


def _ports(health: HealthSpec, login: SshLogin) -> Iterator[str]:
    from nixops_proxmox.ssh.connect import start_stream

    for port in health.tcp:
        try:
            with start_stream(login, port, TIME):
                pass
        except DeployError as error:
            yield f"tcp {port}: {error.message}"


def _answers(health: HealthSpec, login: SshLogin) -> Iterator[str]:
    for check in health.http:
        told = f"http {check.port}{check.path}"
        try:
            status = ask(login, check)
        except DeployError as error:
            yield f"{told}: {error.message}"
        except OSError as error:
            yield f"{told}: no answer ({str(error) or 'timeout'})"
        else:
            if status != check.status:
                yield f"{told}: {f'status {status}' if status else 'no HTTP'}, and {check.status} is wanted"


def ask(login: SshLogin, check: HttpCheck) -> int:
    """The status of the answer. 0: it is no HTTP."""
    from nixops_proxmox.ssh.connect import start_stream

    with start_stream(login, check.port, TIME) as stream:
        stream.settimeout(TIME)
        host = f"{bracketed(login.endpoint.host)}:{check.port}"
        stream.sendall(f"GET {check.path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode("ascii"))
        found = re.match(rb"HTTP/1\.[01] ([0-9]{3})[ \r\n]", _first_line(stream))
        return int(found[1]) if found else 0


def _first_line(stream: "socket.socket | paramiko.Channel") -> bytes:
    told = b""
    while b"\n" not in told and len(told) < 4096:
        piece = stream.recv(1024)
        if not piece:
            break
        told += piece
    return told


def _command(health: HealthSpec, shell: Voice) -> Iterator[str]:
    if health.command is None:
        return
    try:
        done = shell.run(command_script(health.command), timeout=COMMAND_TIME)
    except ConnectionLost as error:
        yield f"command: {error.message}"
        return
    if done.status != 0:
        words = shown_line(tail(" ".join(f"{done.stdout} {done.stderr}".split()), LONGEST))
        yield f"command: status {done.status}{f': {words}' if words else ''}"
