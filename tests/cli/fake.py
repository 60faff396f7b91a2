"""The command line over a deployment that only pretends: `python -m tests.cli.fake VERB …`.

Machines, their phases and what goes wrong come from the file that FAKE names, as JSON:
{"described": [...], "recorded": {name: phase}, "failing": {name: error class}, "seconds": 0.0}
`hangs` names a method, or `open`, that waits until something is written into the pipe FAKE.go.
"""

import json
import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from nixops_proxmox import errors
from nixops_proxmox.addresses import MacPool
from nixops_proxmox.cli import main
from nixops_proxmox.core.graph import Ref
from nixops_proxmox.core.kind import Presence
from nixops_proxmox.errors import DeployError
from nixops_proxmox.fleet import Outcome, run_all
from nixops_proxmox.kinds.resource import Stranger
from nixops_proxmox.kinds.volume.facts import Volume, VolumePhase
from nixops_proxmox.model import Change, Effect, Endpoint, Facts, Machine, Phase, Spot, Transfer, VmRef
from nixops_proxmox.operations import Checked, Options, Planned, Removal
from nixops_proxmox.operations.addressing import MacShown, Taking
from nixops_proxmox.operations.adopting import Adoption, Target
from nixops_proxmox.operations.identity_verb import KnownKey
from nixops_proxmox.operations.images import Unused
from nixops_proxmox.operations.keeping import VolumeShown
from nixops_proxmox.operations.moving import Passage
from nixops_proxmox.operations.plan_file import SavedPlan
from nixops_proxmox.operations.pursuit import Pursuit
from nixops_proxmox.operations.resources import ResourceShown
from nixops_proxmox.operations.rolling import Rollout
from nixops_proxmox.pve.api.answers import GuestSeen
from nixops_proxmox.pve.cluster.verdicts import Explanation, Verdict
from nixops_proxmox.spec import Disk, MachineSpec, VolumeSpec
from nixops_proxmox.ssh.argv import Access
from nixops_proxmox.state import open_state
from nixops_proxmox.state.store import Deployment

HOST_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIIMgpRl32MOMqKSSfGcN9YIeRJdhlF4V6e+yahUJ0jDq x"
ROAD = [Phase.ABSENT, Phase.RESERVED, Phase.DEFINED, Phase.INSTALLER, Phase.INSTALLED, Phase.RUNNING, Phase.READY]


def make_error(kind: str, name: str) -> DeployError:
    hint = "do this"
    match kind:
        case "TaskFailed":
            return errors.TaskFailed(
                f"{name}: no room",
                upid="UPID:pve1:1",
                exit_status_text="lvcreate failed",
                log=["one", "two"],
                hint=hint,
            )
        case "CommandFailed":
            return errors.CommandFailed(
                f"{name}: partition failed", status=3, output="parted: no\nreally no", hint=hint
            )
        case "NoEndpoint":
            return errors.NoEndpoint(f"{name}: nobody answered", attempts=["10.0.0.7: timed out"], hint=hint)
        case "defect":
            raise KeyError("a defect")
    error: DeployError = getattr(errors, kind)(f"{name}: it went wrong", hint=hint)
    return error


DATA = VolumeSpec(name="data", storage="local-lvm", size=10 << 30)


class FakeVolumes:
    """One volume, `data`."""

    def profiles(self) -> set[str]:
        return set()

    def spec(self, name: str) -> VolumeSpec:
        if name != DATA.name:
            raise errors.SpecError(f"there is no volume {name!r}")
        return DATA


class FakeAddresses:
    """One machine, whose MAC another VM has."""

    def kept(self, machine: str) -> list[str]:
        return ["pvm002.example.com of the pool campus"]

    def table(self, *, look: bool) -> list[MacShown]:
        elsewhere = "VM 7 (gitea) on pve1" if look else ""
        return [
            MacShown("web", "net0", "02:4D:01:10:00:01", "scheme mgmt", elsewhere=elsewhere),
            MacShown("db", "net0", "", "the machine's UUID"),
        ]


class FakeResources:
    """Pools, in the phases that FAKE names under `pools`; those under `forgotten pools` are not described."""

    def __init__(self, plan: dict[str, Any]) -> None:
        self._described, self._forgotten = plan.get("pools", {}), plan.get("forgotten pools", [])

    def described(self) -> list[Ref]:
        return [Ref("pool", name) for name in self._described]

    def forgotten(self) -> list[Ref]:
        return [Ref("pool", name) for name in self._forgotten]

    def recorded(self) -> list[Ref]:
        return [*(Ref("pool", name) for name, phase in self._described.items() if phase != "absent"), *self.forgotten()]

    def profiles(self) -> set[str]:
        return set()

    def rights(self) -> list[Any]:
        return []

    def examinations(self) -> list[Any]:
        return []

    def look(self) -> list[ResourceShown]:
        lines = {"differs": ("comment: 'a' becomes 'b'",)}
        shown = [
            ResourceShown(Ref("pool", name), Presence(phase), described=True, differences=lines.get(phase, ()))
            for name, phase in self._described.items()
        ]
        return [*shown, *(ResourceShown(ref, Presence.PRESENT, described=False) for ref in self.forgotten())]


class FakeDeployed:
    network = None  # there is no description

    def __init__(self, options: Options, record: Deployment, plan: dict[str, Any]) -> None:
        self.options, self.record, self._plan = options, record, plan
        self.volumes, self.resources = FakeVolumes(), FakeResources(plan)
        self.addresses, self.takings = FakeAddresses(), list[Taking]()

    def asking(self, names: Sequence[str]) -> list[str]:
        """The hypervisor of the machines under `careful` asks for a word."""
        return [name for name in names if name in self._plan.get("careful", [])]

    def profile_of(self, name: str) -> str:
        return "mgmt"

    def agree(self) -> None: ...

    def release(self, names: Sequence[str]) -> list[Taking]:
        """Only `old` has taken something."""
        pool = MacPool("campus", Path("/campus/machines.yml"))
        self.takings = [Taking(name, "net0", pool, "DE:AD:BE:EF:00:01", new=True) for name in names if name == "old"]
        return self.takings

    def list_volumes(self) -> list[VolumeShown]:
        """In the phases that FAKE names, by volume."""
        phases = self._plan.get("volumes", {})
        spot = Spot(VmRef("u", 900000, "pve1"), "scsi0", "local-lvm:vm-900000-disk-0", 10 << 30)
        return [
            VolumeShown(
                Volume(self.record.name, name, VolumePhase(phase)),
                DATA,
                described=True,
                serial="npv-1",
                spot=None if phase == "absent" else spot,
                parked=phase == "parked",
            )
            for name, phase in phases.items()
        ]

    def list_resources(self) -> list[ResourceShown]:
        return self.resources.look()

    def remove_resources(self, refs: Sequence[Ref]) -> list[Outcome]:
        return [Outcome(ref.name, 0.0, kind=ref.kind) for ref in refs]

    def unused_images(self) -> list[Unused]:
        """None: no machine is made of an image that a deploy put somewhere."""
        return []

    def examine(self, profile: str, words: Sequence[str], **more: Any) -> list[Adoption]:
        """104 can be taken over, and nothing else."""
        guest = GuestSeen(104, "pve1", "qemu", "gitea")
        machine = Machine(self.record.name, more["called"] or "gitea", Phase.STOPPED, Facts(uuid="u", vmid=104))
        options = {"disks": {"scsi0": {"storage": "local-lvm", "size": "32G"}}}
        return [
            Adoption(Target(word, address="vm.gitea"), guest, machine, options, ("args: no option says it",))
            if word == "104"
            else Adoption(Target(word), problem="no VM has this name")
            for word in words
        ]

    def adopt(self, found: Sequence[Adoption]) -> list[Machine]:
        return [one.machine for one in found if one.machine is not None]

    def asking_resources(self) -> list[ResourceShown]:
        """The pools under `careful pools` are on a hypervisor that asks for a word."""
        names = self._plan.get("careful pools", [])
        return [ResourceShown(Ref("pool", one), Presence.ABSENT, described=True, profile="mgmt") for one in names]

    def strange_resources(self, words: Sequence[str]) -> list[tuple[str, Stranger]]:
        return [(word, Stranger("by \x1bhand", ["comment: 'by hand' becomes ''"], lambda: None)) for word in words]

    def adopt_resources(self, words: Sequence[str]) -> None:
        assert words

    def park_volume(self, name: str) -> None:
        self.volumes.spec(name)

    attach_volume = grow_volume = delete_volume = park_volume

    def adopt_volume(self, name: str, disk: str = "") -> None:
        self.volumes.spec(name)

    def identities(self, names: Sequence[str]) -> list[KnownKey]:
        return [KnownKey(name, f"uuid-{name}", HOST_KEY, [("10.0.0.7", 22)], name == "db") for name in names]

    def remarks(self) -> list[str]:
        return []

    def described(self) -> list[str]:
        return list(self._plan.get("described", []))

    def forgotten(self) -> list[str]:
        return [machine.name for machine in self.record.machines() if machine.name not in self.described()]

    def machines(self) -> list[Machine]:
        found = {machine.name: machine for machine in self.record.machines()}
        for name in self.described():
            found.setdefault(name, Machine(self.record.name, name))
        return [found[name] for name in sorted(found)]

    def spec(self, name: str) -> MachineSpec:
        disks = (
            Disk(slot="scsi0", storage="local", size=8 * 2**30),
            Disk(slot="scsi1", storage="local", size=2**30, keep=True),
        )
        return MachineSpec(name=name, disks=disks)

    def deploy(
        self,
        names: Sequence[str],
        *,
        until: Phase | None = None,
        allow_recreate: bool = False,
        promised: SavedPlan | None = None,
    ) -> list[Outcome]:
        assert promised is None or set(names) <= set(promised.machines)
        return run_all(
            names, lambda name: self._walk(name, until or Phase.READY), jobs=self.options.jobs, ended=self.options.ended
        )

    def describe_things(
        self, names: Sequence[str], shown: Sequence[VolumeShown | ResourceShown]
    ) -> Mapping[str, Mapping[str, str]]:
        return {str(one.ref): one.describe_world() for one in shown if one.ref in self.resources.described()}

    def losses(self, name: str) -> tuple[str, ...]:
        return self.removal(name).losses

    def removal(self, name: str) -> Removal:
        lost = f"unused0: local:vm-100-disk-9 of {name}"
        return Removal(self.record.machine(name), (lost,), ("scsi2: local:vm-7-disk-0",))

    def removals(self) -> list[Removal]:
        return [self.removal(name) for name in self.forgotten()]

    def start(self, names: Sequence[str]) -> list[Outcome]:
        return self._set(names, Phase.READY)

    def stop(self, names: Sequence[str]) -> list[Outcome]:
        return self._set(names, Phase.STOPPED)

    def rescue(self, names: Sequence[str]) -> list[Outcome]:
        return self._set(names, Phase.RESCUE)

    def reboot(self, names: Sequence[str], *, hard: bool = False) -> list[Outcome]:
        return self._set(names, Phase.READY)

    def foresee_migration(self, name: str, target: str = "") -> Transfer:
        blocked = ("it is offline",) if target == "pve3" else ()
        return Transfer("pve1", target or "pve2", True, ("local:vm-100-disk-0",), 8 << 30, blocked, ("a warning",))

    def migrate(self, names: Sequence[str], target: str = "") -> list[Outcome]:
        return self._set(names, Phase.READY)

    def read_only(self, name: str) -> Pursuit:
        """Its disk is encrypted, and its recovery key can be read back."""
        from tests.kinds.machine.cluster import Bench
        from tests.kinds.machine.test_encryption import VAULT

        bench = Bench()
        bench.run(spec=VAULT)
        return Pursuit(bench.record.machine, bench.world(spec=VAULT), bench.record)

    def is_elsewhere(self, name: str) -> bool:
        return name == "web"

    def foresee_move(self, name: str, to: str = "", storage: str = "") -> Passage:
        blocked = ("its snapshots (before) would be lost",) if to == "full" else ()
        return Passage(name, "default", to or "tenant", storage or "nfs", "", 8 << 30, True, blocked)

    def move(self, names: Sequence[str], to: str = "", storage: str = "") -> list[Outcome]:
        def work(name: str) -> Machine:
            before = self.record.machine(name)
            machine = before.moved(before.phase, replace(before.facts, profile=to or "tenant"))
            self.record.journal().record(machine, "Pretend")
            return machine

        return run_all(names, work, jobs=1)

    def reinstall(self, names: Sequence[str]) -> list[Outcome]:
        return self._set(names, Phase.READY)

    def destroy(self, names: Sequence[str], *, release: bool = False) -> list[Outcome]:
        def work(name: str) -> Machine:
            if kind := self._plan.get("failing", {}).get(name):
                raise make_error(kind, name)
            self.record.forget(name)
            return Machine(self.record.name, name)

        return run_all(names, work, jobs=1)

    def changing(self, names: Sequence[str]) -> list[str]:
        return [name for name in names if name in self._plan.get("changing", ())]

    def rollouts(self, names: Sequence[str]) -> list[Rollout]:
        return [Rollout("web", tuple((name,) for name in names))] if self._plan.get("rolling") else []

    def plan_in_full(self, name: str, *, copy: bool = False) -> Planned:
        (found,) = self.plan([name], copy=copy)
        nodes = (Verdict("pve1", True, chosen=True), Verdict("pve2", False, ("it is offline",)))
        return replace(found, placement=Explanation(name, "pve1", nodes))

    def plan(self, names: Sequence[str], *, copy: bool = False) -> list[Planned]:
        change = Change("memory", "1024", "2048", restart=True, reason="memory hotplug is off")
        plans = []
        for name in names:
            phase = self.record.machine(name).phase
            if kind := self._plan.get("failing", {}).get(name):
                plans.append(Planned(name, phase, error=make_error(kind, name)))
            elif phase is Phase.READY:
                plans.append(Planned(name, phase))
            else:
                steps = ("Create the VM", "Boot it")
                effect = Effect.NEW if phase is Phase.ABSENT else Effect.RESTART
                why = () if phase is Phase.ABSENT else ("it runs the installer",)
                system = "/nix/store/x-system"
                plans.append(Planned(name, phase, steps, (change,), system, effect=effect, restart=why))
        return plans

    def check(self, names: Sequence[str]) -> list[Checked]:
        failing = self._plan.get("failing", {})
        return [
            Checked(name, Phase.READY, True, True, name not in failing, None, problems=(failing.get(name, "ok?"),))
            if name in failing
            else Checked(name, Phase.READY, True, True, True, True)
            for name in names
        ]

    def believed_access(self, name: str) -> Access | None:
        endpoint = self.record.machine(name).facts.endpoint
        known = Path("/state/known_hosts") / name
        return None if endpoint is None else Access(endpoint, known, alias=f"{name}.{self.record.name}")

    def endpoints(self, name: str) -> tuple[list[str], Endpoint | None]:
        return ["10.0.0.7: chosen", "192.0.2.7: somebody else's host key"], None

    def ssh_argv(self, name: str, command: Sequence[str] = ()) -> list[str]:
        return ["echo", "ssh", name, *command]

    def scp_argv(self, name: str, sources: Sequence[str], target: str, *, recursive: bool = False) -> list[str]:
        return ["echo", "scp", name, *sources, target, str(recursive)]

    def _set(self, names: Sequence[str], phase: Phase) -> list[Outcome]:
        def work(name: str) -> Machine:
            machine = self.record.machine(name).moved(phase, self.record.machine(name).facts)
            self.record.journal().record(machine, "Pretend")
            return machine

        return run_all(names, work, jobs=1)

    def _walk(self, name: str, until: Phase) -> Machine:
        journal, reporter = self.record.journal(), self.options.reporter
        machine = self.record.machine(name)
        start = ROAD.index(machine.phase)
        for to in ROAD[start + 1 : ROAD.index(until) + 1]:
            reporter.step(machine, f"Walk to {to}", to)
            attempt = journal.begin(machine, f"Walk to {to}", to)
            for percent in range(0, 101, 10):
                time.sleep(self._plan.get("seconds", 0.0) / 11)
                if self._plan.get("seconds"):
                    reporter.detail(machine, f"uploading {percent} %")
            if to is Phase.INSTALLED and (kind := self._plan.get("failing", {}).get(name)):
                error = make_error(kind, name)
                journal.fail(attempt, error)
                raise error
            machine = machine.moved(to, Facts(vmid=100, node="pve1", endpoint=Endpoint("fd00::7", 2222)))
            journal.commit(attempt, machine)
            reporter.done(machine, f"Walk to {to}", 1.25)
        return machine


def wait_for_leave() -> str:
    """Until somebody writes into the pipe."""
    return Path(f"{os.environ['FAKE']}.go").read_text()


@contextmanager
def open_fake(options: Options) -> Iterator[FakeDeployed]:
    plan = json.loads(Path(os.environ["FAKE"]).read_text())
    with open_state(options.state) as state:
        record = state.deployment(options.deployment)
        known = {machine.name for machine in record.machines()}
        for name, phase in plan.get("recorded", {}).items():
            if name not in known and not record.history(name):
                facts = Facts(vmid=100, node="pve1", profile="default", endpoint=Endpoint("10.0.0.7"))
                record.journal().record(Machine(record.name, name, Phase(phase), facts), "Made up")
        deployed, hangs = FakeDeployed(options, record, plan), plan.get("hangs", "")
        if hangs == "open":
            wait_for_leave()
        elif hangs:
            meant = getattr(deployed, hangs)
            setattr(deployed, hangs, lambda *words, **more: (wait_for_leave(), meant(*words, **more))[1])
        yield deployed


if __name__ == "__main__":
    sys.exit(main(open_deployment=open_fake))
