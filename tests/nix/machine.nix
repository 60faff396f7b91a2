# One machine, evaluated with the real lib beside the stand-in for NixOS. `targetEnv`: null is a NixOS without NixOps;
# `targetUser`: NixOps's own option, or null; `plain`: the same system without our module, for what is left alone.
{ machine, targetEnv ? null, targetUser ? null, withDisko ? false, more ? { } }:

let
  nixpkgs = ../nixops/nixpkgs;
  rig = import ./rig.nix { inherit nixpkgs; };
  inherit (rig) lib;

  evaluate = modules: import (nixpkgs + "/nixos/lib/eval-config.nix") {
    system = "x86_64-linux";
    inherit modules;
  };

  nixops = {
    options.deployment.targetEnv = lib.mkOption { type = lib.types.str; default = targetEnv; };
    options.deployment.targetUser = lib.mkOption { type = lib.types.nullOr lib.types.str; default = targetUser; };
  };
  disko = rig.diskoModules ++ [{
    disko.devices.disk = {
      root.device = "/dev/sda";
      data.device = "/dev/disk/by-id/scsi-0QEMU_QEMU_HARDDISK_data";
    };
  }];

  made = evaluate ([ ../../nix/proxmox.nix machine more ]
    ++ lib.optional (targetEnv != null) nixops
    ++ lib.optionals withDisko disko);
  inherit (made) config;

  told = config: {
    boot = removeAttrs config.boot [ "loader" ];
    loader = removeAttrs config.boot.loader [ "external" ];
    inherit (config) services users fileSystems warnings networking nix security;
    network = config.systemd.network;
  };
in
told config // {
  exported = import ../../nix/export.nix config.deployment.proxmox;
  inherit (config.nixpkgs) system;
  hostPlatform = if made.options.nixpkgs.hostPlatform.isDefined then config.nixpkgs.hostPlatform else null;
  failed = map (one: one.message) (builtins.filter (one: !one.assertion) config.assertions);
  devices = config.deployment.proxmox.guest.devices;
  inherit (config.deployment.proxmox.guest) encrypted;
  crypttab = config.environment.etc.crypttab.text or "";
  rules = [ config.services.udev.extraRules config.boot.initrd.services.udev.rules ];
  links = [ config.boot.loader.grub.extraPrepareConfig config.system.activationScripts.proxmoxDisks or "" ];
  plain = told (evaluate [ ]).config;
}
