"""For doors whose descriptions have no volumes."""

from collections.abc import Mapping, Sequence

from nixops_proxmox.errors import SpecError
from nixops_proxmox.model import Change, Machine, Vm
from nixops_proxmox.spec import Disk, MachineSpec


class NoVolumes:
    """Satisfies `kinds.machine.ports.VolumeKeeper`."""

    def changes(self, spec: MachineSpec, vm: Vm) -> Sequence[Change]:
        del vm
        self._refuse(spec)
        return ()

    def unwanted(self, spec: MachineSpec, vm: Vm) -> Sequence[str]:
        del spec, vm
        return ()

    def disks(self, spec: MachineSpec) -> Sequence[Disk]:
        del spec
        return ()

    def used(self, spec: MachineSpec) -> Mapping[str, int]:
        del spec
        return {}

    def note_grown(self, slot: str) -> None: ...

    def settle(self, machine: Machine, spec: MachineSpec) -> None:
        del machine
        self._refuse(spec)

    def park_all(self, machine: Machine) -> None: ...

    def refuse_rollback(self, machine: Machine, snapshot: str) -> None: ...

    def attached(self, machine: Machine) -> Sequence[str]:
        del machine
        return ()

    def _refuse(self, spec: MachineSpec) -> None:
        if spec.volumes:
            raise SpecError(
                "this way of deploying knows no volumes: use the command line for a network that has them",
                path=f"{spec.name}.deployment.proxmox.volumes",
            )
