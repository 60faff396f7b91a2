"""One run of our core in a process of its own, inside of the lab's network: what is wanted on stdin, what became of
it on stdout. Deadlines can be short here, which the command line does not offer."""

import dataclasses
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from threading import Lock
from typing import Any

from nixops_proxmox.errors import DeployError
from nixops_proxmox.fleet import Outcome
from nixops_proxmox.messages.disk_keys import proofs_json
from nixops_proxmox.messages.shapes.setup import KeyProofsJson
from nixops_proxmox.model import Machine, Phase
from nixops_proxmox.operations import Deployed, Options, open_given
from nixops_proxmox.operations.disk_keys import rotate, try_keys
from nixops_proxmox.reach.patience import Patience
from nixops_proxmox.spec import Encryption, NetworkSpec, parse_machine, parse_network


class Heard:
    """What the user would have been told, by machine."""

    def __init__(self) -> None:
        self.warnings: dict[str, list[str]] = {}
        self.steps: dict[str, list[str]] = {}
        self._lock = Lock()

    def step(self, machine: Machine, label: str, to: str) -> None:
        with self._lock:
            self.steps.setdefault(machine.name, []).append(f"{label} -> {to}")

    def detail(self, machine: Machine, text: str) -> None: ...

    def done(self, machine: Machine, label: str, seconds: float) -> None: ...

    def warn(self, machine: Machine, text: str) -> None:
        with self._lock:
            self.warnings.setdefault(machine.name, []).append(text)


def described(outcome: Outcome, machine: Machine, heard: Heard) -> dict[str, Any]:
    error = outcome.error
    return {
        "phase": machine.phase.value,
        "facts": machine.facts.to_json(),
        "seconds": outcome.seconds,
        "warnings": heard.warnings.get(outcome.name, []),
        "steps": heard.steps.get(outcome.name, []),
        "error": "" if error is None else type(error).__name__,
        "message": "" if error is None else str(error),
        "hint": error.hint if isinstance(error, DeployError) else "",
        "exit_status": 0 if error is None else error.exit_status,
    }


def encrypted(network: NetworkSpec, how: Mapping[str, Any]) -> NetworkSpec:
    """With these disks encrypted, which the command line only does where Nix builds the system. All data disks are."""
    found = [
        one.model_copy(
            update={
                "encryption": read_encryption(one.name, how[one.name]),
                "disks": tuple(disk.model_copy(update={"encrypt": True}) for disk in one.disks),
            }
        )
        if one.name in how
        else one
        for one in network.machines
    ]
    return network.model_copy(update={"machines": tuple(found)})


def read_encryption(name: str, how: Mapping[str, Any]) -> Encryption | None:
    options = {
        "disks": [{"storage": "local", "size": 1}],
        "network": [{"bridge": "vmbr0"}],
        "install": {"iso": "local:iso/x.iso"},
        "encryption": how,
    }
    return parse_machine(name, {"proxmox": options}).encryption


def tried(deployed: Deployed, name: str) -> KeyProofsJson:
    pursuit = deployed.read_only(name)
    return proofs_json(pursuit.machine, try_keys(pursuit))


def main(folder: Path) -> int:
    wanted = json.load(sys.stdin)
    profiles = folder / "profiles.toml"
    profiles.touch(mode=0o600)
    lines = [f"{key} = {json.dumps(value)}" for key, value in wanted["profile"].items()]
    profiles.write_text("\n".join(["[lab]", *lines, ""]))
    heard = Heard()
    options = Options(
        deployment="faults",
        state=str(folder / "state.db"),
        profiles=profiles,
        keys=folder / "keys",
        reporter=heard,
        patience=dataclasses.replace(Patience(), **wanted["patience"]),
    )
    machines = {name: {"deployment": {"proxmox": one}} for name, one in wanted["machines"].items()}
    network = encrypted(parse_network("faults", {"machines": machines}), wanted.get("encryption", {}))
    with open_given(options, network) as deployed:
        until = {"until": Phase(wanted["until"])} if wanted.get("until") else {}
        names = wanted["names"] or deployed.described()
        if wanted["verb"] == "try_key":
            sys.stdout.write(json.dumps({name: tried(deployed, name) for name in names}))
            return 0
        if wanted["verb"] == "rotate":
            outcomes = deployed.work_on(names, lambda pursuit, _: rotate(pursuit))
        else:
            outcomes = getattr(deployed, wanted["verb"])(names, **until)
        answer = {one.name: described(one, deployed.record.machine(one.name), heard) for one in outcomes}
    sys.stdout.write(json.dumps(answer))
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
