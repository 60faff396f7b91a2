# Every way to choose a boot loader × every way to lay out disks × both firmwares.
{ nixpkgs, diskoTree ? null }:

let
  rig = import ./rig.nix { inherit nixpkgs; disko = diskoTree; };
  inherit (rig) lib;

  firmwares = {
    bios = { deployment.proxmox.bios = "seabios"; };
    ovmf = { deployment.proxmox.efi.storage = "local-lvm"; };
  };

  root = { fileSystems."/" = { device = "/dev/disk/by-label/mine"; fsType = "ext4"; }; };
  bios = { size = "1M"; type = "EF02"; };
  esp = { size = "256M"; type = "EF00"; content = { type = "filesystem"; format = "vfat"; mountpoint = "/boot"; }; };
  disko = partitions: rig.diskoModules ++ [{
    disko.devices.disk.main = {
      device = "/dev/disk/by-id/scsi-0QEMU_QEMU_HARDDISK_root";
      type = "disk";
      content = {
        type = "gpt";
        partitions = partitions // {
          root = { size = "100%"; content = { type = "filesystem"; format = "ext4"; mountpoint = "/"; }; };
        };
      };
    };
  }];
  layouts = firmware: {
    layout = [ ];
    script = [ root { deployment.proxmox.install.partition = "true"; } ];
    own = [ root ];
    disko = disko (if firmware == "bios" then { boot = bios; } else { inherit esp; });
    hybrid = disko { boot = bios; inherit esp; };
  };

  choices = {
    nothing = { };
    grubDevice = { boot.loader.grub.device = "/dev/sdx"; };
    grubDevices = { boot.loader.grub = { enable = true; devices = [ "/dev/sdx" "/dev/sdy" ]; }; };
    grubMirrored = { boot.loader.grub = { enable = true; mirroredBoots = [{ path = "/boot"; devices = [ "/dev/sdx" ]; }]; }; };
    grubEnable = { boot.loader.grub.enable = true; };
    grubEfi = { boot.loader.grub = { enable = true; device = "nodev"; efiSupport = true; }; boot.loader.efi.canTouchEfiVariables = true; };
    grubRemovable = { boot.loader.grub = { device = "nodev"; efiSupport = true; efiInstallAsRemovable = true; }; };
    systemdBoot = { boot.loader.systemd-boot.enable = true; boot.loader.efi.canTouchEfiVariables = true; };
    # As lanzaboote does it.
    external = { boot.loader.systemd-boot.enable = lib.mkForce false; boot.loader.external = { enable = true; installHook = "/bin/sign"; }; };
    extlinux = { boot.loader.grub.enable = false; boot.loader.generic-extlinux-compatible.enable = true; };
  };

  case = firmware: layout: choice: rig.told ([
    { deployment.proxmox.disks = [{ storage = "local-lvm"; size = 8; serial = "root"; }]; }
    firmwares.${firmware}
    choices.${choice}
  ] ++ (layouts firmware).${layout});
in
{ firmware, layout }:
lib.mapAttrs (choice: _: removeAttrs (case firmware layout choice) [ "networks" "exported" "users" ]) choices
