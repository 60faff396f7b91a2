# The partition scripts that our module makes of disko's devices: disko's own types and texts (`disko`, its tree), with the
# lib of nixpkgs (`lib`), beside the stand-in for NixOS's modules. disko's module itself wants to build scripts with programs
# of nixpkgs, and more than a stand-in has; its option and what it tells NixOS are here instead.
{ disko }:

let
  rig = import ../nix/rig.nix { nixpkgs = ../nixops/nixpkgs; };
  inherit (rig) lib;

  types = import (disko + "/lib") { inherit lib; makeTest = null; eval-config = null; qemu-common = null; };

  filesystem = format: mountpoint: { type = "filesystem"; inherit format mountpoint; };
  grub = { size = "2M"; type = "EF02"; };
  esp = { size = "128M"; type = "EF00"; content = filesystem "vfat" "/boot"; };
  # extlinux, the stand-in's loader with a BIOS, is found by this attribute; GRUB does not need it.
  boot = { size = "128M"; attributes = [ 2 ]; content = filesystem "ext4" "/boot"; };
  rest = content: { size = "100%"; inherit content; };
  gpt = partitions: { type = "disk"; content = { type = "gpt"; inherit partitions; }; };
  at = devices: slot: device: device // { device = devices.${slot}; };

  layouts = devices:
    let on = at devices; in {
      ext4 = {
        disk.main = on "scsi0" (gpt { inherit grub; root = rest (filesystem "ext4" "/") // { attributes = [ 2 ]; }; });
      };
      btrfs.disk.main = on "scsi0" (gpt {
        inherit esp;
        root = rest {
          type = "btrfs";
          extraArgs = [ "-f" ];
          subvolumes = {
            "@root".mountpoint = "/";
            "@home" = { mountpoint = "/home"; mountOptions = [ "compress=zstd" ]; };
            "@nix" = { mountpoint = "/nix"; mountOptions = [ "noatime" ]; };
          };
        };
      });
      lvm = {
        disk.main = on "scsi0" (gpt { inherit grub boot; pv = rest { type = "lvm_pv"; vg = "pool"; }; });
        disk.more = on "scsi1" (gpt { pv = rest { type = "lvm_pv"; vg = "pool"; }; });
        lvm_vg.pool = {
          type = "lvm_vg";
          lvs.root = { size = "1700M"; content = filesystem "ext4" "/"; };
          lvs.home = { size = "400M"; content = filesystem "xfs" "/home"; };
        };
      };
      mdraid = {
        disk.one = on "scsi0" (gpt { inherit esp; part = rest { type = "mdraid"; name = "root"; }; });
        disk.two = on "scsi1" (gpt { part = rest { type = "mdraid"; name = "root"; }; });
        mdadm.root = { type = "mdadm"; level = 1; content = { type = "gpt"; partitions.root = rest (filesystem "ext4" "/"); }; };
      };
      several = {
        disk.main = on "scsi0" (gpt { inherit grub boot; root = rest (filesystem "xfs" "/"); });
        disk.data = on "scsi1" (gpt {
          swap = { size = "64M"; content.type = "swap"; };
          data = rest (filesystem "btrfs" "/srv");
        });
      };
      # The second disk is kept: made at first, and only mounted by a reinstall.
      kept = {
        disk.main = on "scsi0" (gpt { inherit grub boot; root = rest (filesystem "ext4" "/"); });
        disk.data = on "scsi1" (gpt { data = rest (filesystem "ext4" "/srv"); });
      };
      # A disk by a name that some other disk may have the next time.
      strange.disk.main = gpt { inherit grub; root = rest (filesystem "ext4" "/"); } // { device = "/dev/disk/by-id/scsi-0QEMU_QEMU_HARDDISK_three"; };
      zfs = {
        disk.main = on "scsi0" (gpt { inherit esp; pool = rest { type = "zfs"; pool = "tank"; }; });
        disk.more = on "scsi1" (gpt { pool = rest { type = "zfs"; pool = "tank"; }; });
        zpool.tank = {
          type = "zpool";
          mode = "mirror";
          rootFsOptions = { mountpoint = "none"; compression = "zstd"; };
          datasets.root = { type = "zfs_fs"; mountpoint = "/"; };
          datasets.nix = { type = "zfs_fs"; mountpoint = "/nix"; options.atime = "off"; };
        };
      };
      tmpfs = {
        disk.main = on "scsi0" (gpt { inherit esp; nix = rest (filesystem "ext4" "/nix"); });
        nodev."/" = { fsType = "tmpfs"; mountOptions = [ "size=64M" "mode=755" ]; };
      };
    };

  script = name: _:
    (rig.machine [
      ({ config, ... }: {
        options.disko.devices = lib.mkOption { type = types.toplevel; default = { }; };
        config = {
          disko.devices = (layouts config.deployment.proxmox.guest.devices).${name};
          fileSystems = config.disko.devices._config.fileSystems or { };
          deployment.proxmox.disks = map
            (serial: { storage = "local-lvm"; size = "1500M"; inherit serial; keep = name == "kept" && serial == "two"; })
            [ "one" "two" ];
        };
      })
    ]).config.deployment.proxmox.install.partition;
in
lib.mapAttrs script (layouts { scsi0 = ""; scsi1 = ""; })
