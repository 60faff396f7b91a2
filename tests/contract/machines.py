"""A deployment on a lab of the contract tests: its record, and the verbs of `operations`."""

import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from nixops_proxmox.model import Machine, Phase
from nixops_proxmox.operations import Deployed, Options, open_given
from nixops_proxmox.pve.wire.calls import Call
from nixops_proxmox.spec import MachineSpec, NetworkSpec, VolumeSpec
from nixops_proxmox.spec.resource import ResourceSpec
from nixops_proxmox.state import open_state
from tests.contract.client_bench import Bench, bare


@dataclass(frozen=True)
class Deployment:
    bench: Bench
    folder: Path
    name: str = "demo"

    @property
    def profiles(self) -> Path:
        path = self.folder / "profiles.toml"
        if not path.exists():
            lab = self.bench.lab
            table = {"endpoint": lab.url, "token": lab.token, "fingerprint": lab.fingerprint}
            path.touch(mode=0o600)
            path.write_text("\n".join(["[default]", *(f'{key} = "{value}"' for key, value in table.items()), ""]))
        return path

    @property
    def state(self) -> str:
        return str(self.folder / "state.db")

    @contextmanager
    def opened(
        self, *specs: MachineSpec, beside: Sequence[ResourceSpec | VolumeSpec] = (), **options: Any
    ) -> Iterator[Deployed]:
        """`beside`: what is described beside machines."""
        described = specs or (bare(name="web"),)
        given = Options(
            deployment=self.name, state=self.state, profiles=self.profiles, keys=self.folder / "keys", **options
        )
        volumes = tuple(one for one in beside if isinstance(one, VolumeSpec))
        resources = tuple(one for one in beside if isinstance(one, ResourceSpec))
        network = NetworkSpec(name=self.name, machines=described, volumes=volumes, resources=resources)
        with open_given(given, network) as deployed:
            yield deployed

    def make(self, name: str = "web", *, recorded: bool = True, **described: Any) -> Machine:
        """A machine that is stopped, with its VM."""
        spec = bare(name=name, **described)
        machine = self.bench.machine(spec, name=name)
        machine = replace(machine, deployment=self.name).moved(
            Phase.STOPPED, replace(machine.facts, profile="default", uuid=str(uuid.uuid4()))
        )
        self.bench.hypervisor.create_vm(spec, machine, self.bench.note)
        if recorded:
            self.record(machine)
        return machine

    def record(self, machine: Machine) -> None:
        with open_state(self.state) as state:
            state.deployment(self.name).journal().record(machine, "made for a test")

    def recorded(self, name: str = "web") -> Machine:
        with open_state(self.state) as state:
            return state.deployment(self.name).machine(name)

    def forget(self) -> None:
        """The state is lost."""
        Path(self.state).unlink()

    def by_hand(self, method: Any, path: str, **params: Any) -> Any:
        """Somebody else's call; a task is waited for."""
        root = self.bench.another(username="root@pam", password=self.bench.lab.root_password).client
        answer = root._sender.send(Call(method, path, {}, params))
        self.bench.lab.settle()
        return answer

    def config(self, machine: Machine) -> dict[str, str]:
        facts = machine.facts
        return dict(self.bench.another().client.get_config(facts.node, facts.vmid).values)

    def pools(self) -> list[dict[str, str]]:
        root = self.bench.another(username="root@pam", password=self.bench.lab.root_password).client
        return sorted(root._sender.send(Call("GET", "/pools", {}, {})), key=lambda pool: str(pool["poolid"]))
