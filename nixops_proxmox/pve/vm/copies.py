"""Pure: what speaks against making a machine from its image, template or backup, found out before anything is made."""

import re
from collections.abc import Iterator, Mapping, Sequence

from nixops_proxmox.errors import NotFound, PveRefused, SpecError
from nixops_proxmox.pve.api.answers import ClusterResources, GuestSeen
from nixops_proxmox.pve.api.versions import Release
from nixops_proxmox.pve.wire.properties import (
    drives_of,
    is_cdrom,
    parse_drive,
    parse_flag,
    parse_size,
    print_size,
    storage_of,
)
from nixops_proxmox.spec import Disk, InstallSource, MachineSpec
from nixops_proxmox.spec.images import ON_NODE, is_file_here

FIRMWARE = ("efidisk0", "tpmstate0")


def medium_of(spec: MachineSpec) -> tuple[str, str]:
    """(volume, content type) of what the machine is installed from, both empty if it is no volume of a storage."""
    volume, content = "", ""
    if spec.is_container:
        template = spec.container.template if spec.container is not None else ""
        return (template, "vztmpl") if is_stored(template) else ("", "")
    match spec.install.source:
        case InstallSource.ISO:
            volume, content = spec.install.iso or "", "iso"
        case InstallSource.IMAGE:
            volume = spec.install.image or ""
            if is_file_here(volume) or volume.startswith(ON_NODE):
                return "", ""
            content = "import" if volume.partition(":")[2].startswith("import/") else "images"
        case InstallSource.BACKUP:
            volume, content = spec.install.backup or "", "backup"
    return (volume, content) if storage_of(volume) and not volume.startswith("/") else ("", "")


def is_stored(template: str) -> bool:
    """It names a volume, and no file."""
    return bool(storage_of(template)) and not template.startswith(("/", ".", "~"))


def refuse_image(spec: MachineSpec, release: Release) -> None:
    """Raises for an image that this release cannot import. PVE itself judges the path of a node's file, which only
    root@pam may use."""
    image, here = spec.install.image or "", is_file_here(spec.install.image)
    path = f"{spec.name}.deployment.proxmox.install.image"
    if image.partition(":")[2].startswith("iso/"):
        raise SpecError(
            f"{image} cannot be imported: PVE cannot import from a storage for ISO images",
            path=path,
            hint="put it on a storage with content type `import` (PVE 8.4 or later)",
        )
    if is_vma(image):
        raise SpecError(
            f"{image} is a VMA, which is a backup of a whole VM and not an image of a disk",
            path=path,
            hint='put it on a storage for backups, and set install.from = "backup"; or build a qcow2 or raw image',
        )
    if (here or medium_of(spec)[1] == "import") and not release.can_import_images:
        raise PveRefused(
            f"{spec.name}: PVE {release} cannot import {image} as a disk: that came with 8.4",
            hint="make a VM of the image by hand (`qm importdisk`), turn it into a template and use"
            ' install.from = "template"; or install from the ISO',
        )


def is_vma(image: str) -> bool:
    """As vzdump and NixOS's `proxmox` image format name them: `vzdump-qemu-nixos.vma.zst`."""
    return bool(re.search(r"\.vma(\.(zst|gz|lzo))?$", image)) or image.partition(":")[2].startswith("backup/")


def find_templates(spec: MachineSpec, seen: ClusterResources) -> Sequence[GuestSeen]:
    """By VMID or name, by their nodes: where storages are not shared, each may have one. NotFound or
    PveRefused if there is none, one is no template, or a node has several."""
    wanted = spec.install.template or ""
    found = [
        guest
        for guest in seen.guests.values()
        if guest.kind == "qemu" and (str(guest.vmid) == wanted or (guest.name == wanted and guest.template))
    ]
    if not found:
        raise NotFound(
            f"{spec.name}: there is no template {wanted}",
            hint="give its VMID or its name; to see and clone it, we need VM.Audit and VM.Clone on it",
        )
    if len({guest.node for guest in found}) < len(found):
        where = ", ".join(f"{guest.vmid} on {guest.node}" for guest in found)
        raise PveRefused(f"{spec.name}: several templates are called {wanted}: {where}", hint="give the VMID")
    for guest in found:
        if not guest.template:
            raise PveRefused(
                f"{spec.name}: VM {guest.vmid} is no template", hint=f"`qm template {guest.vmid}` makes it one"
            )
    return sorted(found, key=lambda guest: guest.node)


def get_template(spec: MachineSpec, seen: ClusterResources, node: str = "") -> GuestSeen:
    """The one on that node; where it has none, the first: PVE clones it to there if its storage is shared."""
    found = find_templates(spec, seen)
    return next((guest for guest in found if guest.node == node), found[0])


def refuse_template(spec: MachineSpec, config: Mapping[str, str]) -> None:
    """Raises SpecError if a clone of the template could not become what is described."""
    objections = list(_objections(spec, config))
    if objections:
        raise SpecError(
            f"the template {spec.install.template} does not fit: {'; '.join(objections)}",
            path=f"{spec.name}.deployment.proxmox.install.template",
            hint="nothing was made; a linked clone's disks stay on the template's storage (`install.fullClone` copies)",
        )


def refuse_backup(spec: MachineSpec, config: Mapping[str, str]) -> None:
    """Raises SpecError if what is in the backup could not become what is described."""
    objections = list(_objections(spec, config))
    if parse_flag(config.get("template", "0")):
        objections.append("it is of a template, and PVE would restore a template")
    if objections:
        raise SpecError(
            f"the backup {spec.install.backup} does not fit: {'; '.join(objections)}",
            path=f"{spec.name}.deployment.proxmox.install.backup",
            hint="nothing was made; all disks are restored to the storage of the first one",
        )


def _objections(spec: MachineSpec, config: Mapping[str, str]) -> Iterator[str]:
    have = drives_of(config)
    have = {slot: drive for slot, drive in have.items() if not is_cdrom(drive)}
    if spec.disks and spec.disks[0].slot not in have:
        yield f"its disks are {', '.join(sorted(have)) or 'none'}, and the first one described is {spec.disks[0].slot}"
    for disk in spec.disks:
        if disk.slot in have:
            yield from _disk_objections(spec, disk, have[disk.slot])
    bios = spec.bios or ("ovmf" if spec.efi is not None else "")
    if bios and bios != config.get("bios", "seabios"):
        yield f"it boots with {config.get('bios', 'seabios')}, and {bios} is described"


def storages_of_clone(spec: MachineSpec, config: Mapping[str, str]) -> frozenset[str]:
    """The storages that a node must share with the template's, so that PVE makes the clone there."""
    drives = [*drives_of(config).values(), *(parse_drive(config[key]) for key in FIRMWARE if key in config)]
    found = {storage_of(drive.get("file", "")) for drive in drives} - {""}
    return frozenset(found | ({spec.disks[0].storage} if spec.install.full_clone and spec.disks else set()))


def _disk_objections(spec: MachineSpec, disk: Disk, drive: Mapping[str, str]) -> Iterator[str]:
    size = parse_size(drive.get("size", ""))
    if size is not None and disk.size < size:
        yield f"{disk.slot} is described with {print_size(disk.size)}, and has {print_size(size)}"
    is_copied = spec.install.full_clone or spec.install.source is InstallSource.BACKUP
    goes_to = spec.disks[0].storage if is_copied else storage_of(drive.get("file", ""))
    if disk.storage != goes_to:
        yield f"{disk.slot} is described on {disk.storage}, and it will be on {goes_to}"


def refuse_larger_image(spec: MachineSpec, sizes: Sequence[int]) -> None:
    """`sizes`: what the storage says of the image, in bytes (its file's or its disk's)."""
    disk = spec.disks[0]
    if sizes and disk.size < max(sizes):
        raise SpecError(
            f"{disk.slot} has {print_size(disk.size)}, and the image {spec.install.image} {print_size(max(sizes))}",
            path=f"{spec.name}.deployment.proxmox.disks",
            hint="a disk cannot be smaller than its image",
        )
