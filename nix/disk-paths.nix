# The name of a disk in the guest. Python (spec/serials.py) derives the same serials and names.
{ lib, serialsFrom }:

disk:
let
  isKnown = serialsFrom != null && serialsFrom != "";
  derived = builtins.substring 0 16 (builtins.hashString "sha256" "${lib.toLower serialsFrom}/${disk.slot}");
  serial = if disk.serial != null then disk.serial else if isKnown then derived else null;
in
if serial == null then null
else if lib.hasPrefix "virtio" disk.slot then "/dev/disk/by-id/virtio-${serial}"
else if lib.hasPrefix "sata" disk.slot then "/dev/disk/by-id/ata-QEMU_HARDDISK_${serial}"
else "/dev/disk/by-id/scsi-0QEMU_QEMU_HARDDISK_${serial}"
