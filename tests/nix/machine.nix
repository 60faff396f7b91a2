# One machine, evaluated with the real lib: our module and as much of NixOS around it as the module speaks to.
# `targetEnv`: null is a NixOS without NixOps; `more`: modules beside the machine.
{ lib, machine, targetEnv ? null, withDisko ? false }:

let
  lib' = import lib;
  inherit (lib') mkOption types;
  open = default: mkOption { type = types.attrsOf types.anything; inherit default; };

  nixos = {
    options = lib'.genAttrs [ "boot" "services" "users" "fileSystems" "networking" "systemd" ] (_: open { }) // {
      warnings = mkOption { type = types.listOf types.str; default = [ ]; };
      assertions = mkOption { type = types.listOf types.anything; default = [ ]; };
      nixpkgs.system = mkOption { type = types.nullOr types.str; default = null; };
    };
  };
  nixops = {
    options.deployment.targetEnv = mkOption { type = types.str; default = targetEnv; };
  };
  disko = {
    options.disko.devices = {
      disk = open {
        root.device = "/dev/sda";
        data.device = "/dev/disk/by-id/scsi-0QEMU_QEMU_HARDDISK_data";
      };
      _create = mkOption { type = types.str; default = "disko-makes"; };
      _mount = mkOption { type = types.str; default = "disko-mounts"; };
    };
  };

  inherit (lib'.evalModules {
    modules = [ nixos ../../nix/proxmox.nix machine ]
      ++ lib'.optional (targetEnv != null) nixops
      ++ lib'.optional withDisko disko;
  }) config;
in
{
  exported = import ../../nix/export.nix config.deployment.proxmox;
  inherit (config) boot services users fileSystems networking systemd warnings;
  inherit (config.nixpkgs) system;
  failed = map (one: one.message) (builtins.filter (one: !one.assertion) config.assertions);
  devices = config.deployment.proxmox.guest.devices;
}
