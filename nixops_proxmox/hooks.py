"""`deploy.hooks`: the user's own commands, which run here, before and after a machine is changed.

A command gets the machine as JSON on its standard input. It gets no secrets: nothing is in there that the record or
the description does not have, and neither has any.
"""

import json
import os
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nixops_proxmox.errors import HookFailed
from nixops_proxmox.model import Machine
from nixops_proxmox.secrecy import redact
from nixops_proxmox.spec import HookSpec, MachineSpec
from nixops_proxmox.texts import tail

LONGEST = 2000  # characters of what a command says, from its end


def run_command(argv: Sequence[str], folder: Path, told: bytes, timeout: float) -> tuple[int, str]:
    """Its exit status, and what it said. Raises TimeoutError when its time is over, and OSError if it cannot be
    started. It is alone in its process group, and so are its children: all of them end with it."""
    with subprocess.Popen(
        argv,
        cwd=folder,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=os.environ,
        start_new_session=True,
    ) as process:
        try:
            said, _ = process.communicate(told, timeout=timeout)
        except subprocess.TimeoutExpired as error:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            raise TimeoutError from error
    return process.returncode, said.decode("utf-8", "replace")


@dataclass(frozen=True)
class HookCommands:
    """Satisfies `kinds.machine.ports.HookRunner`. `folder`: where the description is. `tell` gets what a command says,
    a line at a time."""

    spec: HookSpec
    folder: Path
    tell: Callable[[Machine, str], None]
    start: Callable[[Sequence[str], Path, bytes, float], tuple[int, str]] = run_command

    def has(self, when: str) -> bool:
        return self._argv(when) is not None

    def _argv(self, when: str) -> tuple[str, ...] | None:
        return {"before": self.spec.before, "after": self.spec.after}[when]

    def run(self, when: str, machine: Machine, spec: MachineSpec, system: str) -> None:
        argv, where = self._argv(when), f"{machine.name}.deployment.proxmox.deploy.hooks.{when}"
        assert argv is not None
        told = json.dumps(describe_machine(when, machine, spec, system)).encode()
        hint = f"`{argv[0]}` runs on this computer, with the machine as JSON on its standard input"
        try:
            status, said = self.start(argv, self.folder, told, self.spec.timeout)
        except TimeoutError as error:
            raise HookFailed(f"{where}: it did not end within {self.spec.timeout} s", hint=hint) from error
        except OSError as error:
            raise HookFailed(f"{where}: {argv[0]} cannot be started: {error.strerror}", hint=hint) from error
        said = tail(redact(said).strip(), LONGEST)
        if status != 0:
            how = f"exit status {status}" if status > 0 else f"signal {-status}"
            raise HookFailed(f"{where}: it ended with {how}{f': {said}' if said else ''}", hint=hint)
        for line in said.splitlines():
            self.tell(machine, line)


def describe_machine(when: str, machine: Machine, spec: MachineSpec, system: str) -> Mapping[str, Any]:
    """What a command is told. Empty and null: not known."""
    facts, endpoint = machine.facts, machine.facts.endpoint
    return {
        "when": when,
        "deployment": machine.deployment,
        "machine": machine.name,
        "phase": machine.phase.value,
        "hypervisor": facts.profile,
        "node": facts.node,
        "vmid": facts.vmid or None,
        "uuid": facts.uuid,
        "macs": list(facts.macs),
        "tags": list(spec.tags),
        "group": spec.deploy.strategy.group,
        "addresses": [str(address.ip) for address in facts.addresses],
        "host": None if endpoint is None else endpoint.host,
        "port": None if endpoint is None else endpoint.port,
        "host_key": facts.host_key,
        "system": facts.system,
        "wanted": system,
    }
