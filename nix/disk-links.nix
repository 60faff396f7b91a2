# The names of SCSI disks by their serials: `guest.devices` and `guest.volumes`. Up to the machine version 9.2, QEMU tells
# udev the serial where it asks for a disk's identity. From 10.0 on (PVE 9), PVE has it tell the slot there, and udev calls
# the disk `…_drive-scsi0`. The serial is still told beside (page 0x80), and these names are made from it.
{ config, lib, options, ... }:

let
  cfg = config.deployment.proxmox;
  isOurs = if options.deployment ? targetEnv then config.deployment.targetEnv == "proxmox" else true;

  rules = builtins.readFile ./disk-links.rules;
  link = builtins.readFile ./disk-links.sh;
in
{
  config = lib.mkIf (isOurs && cfg.guest.hardware) {
    services.udev.extraRules = rules;
    boot.initrd = lib.optionalAttrs (options.boot.initrd ? services.udev) { services.udev.rules = rules; };
    boot.loader.grub.extraPrepareConfig = link; # before GRUB is written to `bootDevice`
    system.activationScripts.proxmoxDisks = link;
  };
}
