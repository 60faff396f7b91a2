"""What differs between PVE releases, in one place (7.4, 8.x, 9.x)."""

import re
from dataclasses import dataclass

from typing_extensions import override

from nixops_proxmox.errors import PveError

_COMMON = (
    "VM.Allocate", "VM.Audit", "VM.Clone", "VM.Config.CDROM", "VM.Config.CPU", "VM.Config.Cloudinit", "VM.Config.Disk",
    "VM.Config.HWType", "VM.Config.Memory", "VM.Config.Network", "VM.Config.Options", "VM.Console", "VM.PowerMgmt",
    "VM.Snapshot", "VM.Snapshot.Rollback", "VM.Backup", "VM.Migrate",
    "Datastore.AllocateSpace", "Datastore.AllocateTemplate", "Datastore.Audit", "Pool.Audit", "Sys.Audit",
)  # fmt: skip


@dataclass(frozen=True, order=True)
class Release:
    """A PVE release; comparable."""

    major: int
    minor: int
    patch: int = 0

    @override
    def __str__(self) -> str:
        return f"{self.major}.{self.minor}"

    @property
    def can_overrule_shutdown(self) -> bool:
        """`stop` may abort a shutdown task that holds the VM's lock (qemu-server 8.2)."""
        return self >= Release(8, 2)

    @property
    def can_move_between_pools(self) -> bool:
        """`allow-move` of a pool takes a VM out of the one that it is in (8.1)."""
        return self >= Release(8, 1)

    @property
    def can_look_into_containers(self) -> bool:
        """GET lxc/…/interfaces tells a container's addresses (8.0)."""
        return self >= Release(8, 0)

    @property
    def has_cloud_init_upgrade(self) -> bool:
        """`ciupgrade` (8.0). Before that, cloud-init always upgrades packages."""
        return self >= Release(8, 0)

    @property
    def has_sdn_use(self) -> bool:
        """Bridges need SDN.Use since 8.0."""
        return self >= Release(8, 0)

    @property
    def has_mappings(self) -> bool:
        """Devices of the host by a name of the cluster's (8.0), which others than root@pam may use."""
        return self >= Release(8, 0)

    @property
    def has_agent_privileges(self) -> bool:
        """9.0 replaced VM.Monitor by VM.GuestAgent.*."""
        return self >= Release(9, 0)

    @property
    def has_import_content(self) -> bool:
        """Content type `import` for disk images (8.3)."""
        return self >= Release(8, 3)

    @property
    def can_import_images(self) -> bool:
        """A disk is made of a qcow2 or raw file on a storage of content type `import` (8.4). In 8.3, the type was for
        OVA alone."""
        return self >= Release(8, 4)

    @property
    def agent_privilege(self) -> str:
        return "VM.GuestAgent.Unrestricted" if self.has_agent_privileges else "VM.Monitor"

    @property
    def role_privileges(self) -> tuple[str, ...]:
        """The role that this tool needs. A privilege that the release does not know would be refused with 400."""
        since_8 = ("SDN.Use",) if self.has_sdn_use else ()
        return (*_COMMON, *since_8, self.agent_privilege)


def parse_release(version: str, release: str = "") -> Release:
    """From GET /version: release "9.0" and version "9.0.3"; 7.x says "7.4-3"."""
    match = re.match(r"(\d{1,4})\.(\d{1,4})(?:[.-](\d{1,6}))?", version) or re.match(r"(\d{1,4})\.(\d{1,4})", release)
    if match is None:
        raise PveError(
            f"cannot make out the PVE version from {version!r}, {release!r}", hint="is this really a PVE API?"
        )
    numbers = [int(part) for part in match.groups() if part]
    return Release(*numbers[:3])
