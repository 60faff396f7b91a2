# The boot loader follows the firmware, whatever lays the disks out; one that the user chose always wins. The defaults are
# weaker than mkDefault: NixOS's own modules, disko and generated files override them.
{ config, extendModules, lib, options, ... }:

let
  inherit (lib) mkIf mkOverride;

  cfg = config.deployment.proxmox;
  isOurs = if options.deployment ? targetEnv then config.deployment.targetEnv == "proxmox" else true;

  byUefi = cfg.bios == "ovmf";
  weak = mkOverride 1200;

  # What the machine's own modules choose when we keep out. NixOS's loaders switch each other off, so a default that
  # looked at the options that it helps to decide would have no end.
  without = extendModules { modules = [{ deployment.proxmox.guest.bootLoader = lib.mkForce false; }]; };
  chosen = without.config.boot.loader;
  grub = chosen.grub.enable && (
    without.options.boot.loader.grub.enable.highestPrio < (lib.mkOptionDefault null).priority
    || chosen.grub.efiSupport || chosen.grub.mirroredBoots != [ ]
  );
  other = lib.any (name: (chosen.${name} or { }).enable or false)
    [ "systemd-boot" "external" "generic-extlinux-compatible" "initScript" "limine" "refind" ];

  nowhere = chosen.grub.mirroredBoots == [ ]; # NixOS's modules put `device` and `devices` in there, too
in
{
  config = mkIf (isOurs && cfg.guest.bootLoader) (lib.mkMerge [
    (mkIf (!byUefi && chosen.grub.enable && nowhere && cfg.guest.bootDevice != null) {
      boot.loader.grub.device = weak cfg.guest.bootDevice;
    })
    (mkIf byUefi {
      # The fallback path is enough, and survives a lost EFI disk.
      boot.loader.efi.canTouchEfiVariables = weak false;
    })
    (mkIf (byUefi && grub && !other) {
      boot.loader.grub = {
        efiSupport = weak true;
        efiInstallAsRemovable = weak (!config.boot.loader.efi.canTouchEfiVariables);
        device = mkIf nowhere (weak "nodev");
      };
    })
    (mkIf (byUefi && !grub && !other) { boot.loader.systemd-boot.enable = weak true; })
  ]);
}
