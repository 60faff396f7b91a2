"""What can be done with the volumes of a deployment, by hand or by a door that has them as things of their own."""

from nixops_proxmox.errors import SpecError
from nixops_proxmox.operations.keeping import VolumeShown
from nixops_proxmox.operations.open_deployment import OpenDeployment


class VolumeVerbs(OpenDeployment):
    """One deployment, and its volumes."""

    def list_volumes(self) -> list[VolumeShown]:
        """All volumes, described or recorded, as they are now."""
        return self.volumes.look(self.attachments())

    def make_volume(self, name: str) -> None:
        """Make it if it was not made yet, and grow it to the described size wherever it is."""
        with self._lease() as lease:
            self._keep(lease)
            self.volumes.ensure(name, "", "")

    def attach_volume(self, name: str) -> None:
        """Attach it to the machine that describes it, running or not. SpecError if none does."""
        holder = self.attachments().get(name, "")
        if not holder:
            raise SpecError(
                f"volume {name}: no machine describes it", hint=f'set deployment.proxmox.volumes = [ "{name}" ] of one'
            )
        with self._lease() as lease:
            self._keep(lease)
            self.volumes.attach(name, self.record.machine(holder), self.spec(holder))

    def grow_volume(self, name: str) -> None:
        """Grow it to the described size. The next deploy of its machine grows what is on it."""
        with self._lease() as lease:
            self._keep(lease)
            self.volumes.grow(name)

    def park_volume(self, name: str) -> None:
        """Move it out of the VM of a machine that is stopped."""
        with self._lease() as lease:
            self._keep(lease)
            self.volumes.park(name)

    def delete_volume(self, name: str) -> None:
        """With its data. NeedsPermission if it is protected, or a machine's VM has it."""
        with self._lease() as lease:
            self._keep(lease)
            self.volumes.delete(name)

    def adopt_volume(self, name: str, disk: str = "") -> None:
        """Record a described volume that the cluster has. `disk`, as `MACHINE:SLOT`: one of a machine's disks becomes
        the volume."""
        machine, _, slot = disk.partition(":")
        if disk and not (machine and slot):
            raise SpecError(f"{disk!r} names no disk", hint="write the machine and the slot, as db:scsi1")
        with self._lease() as lease:
            self._keep(lease)
            if disk:
                self.volumes.take(name, slot, self.record.machine(machine), self.spec(machine))
            else:
                self.volumes.adopt(name)
