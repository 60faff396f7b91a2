# Whole machines, evaluated beside NixOS's own modules (a nixpkgs tree) or the stand-in for them: what NixOS refuses, what
# it warns of, and what boots. Nothing is built.
{ nixpkgs, disko ? null }:

rec {
  lib = import (if builtins.pathExists (nixpkgs + "/lib") then nixpkgs + "/lib" else <nixpkgs-lib>);

  # disko, or as much of it as our module reads.
  diskoModules =
    if disko != null then [ (disko + "/module.nix") ]
    else [
      ({ config, ... }: {
        options.disko.devices = {
          disk = lib.mkOption { type = lib.types.attrsOf lib.types.anything; default = { }; };
          _create = lib.mkOption { type = lib.types.str; default = "disko-makes"; };
          _mount = lib.mkOption { type = lib.types.str; default = "disko-mounts"; };
        };
        config = lib.mkIf (config.disko.devices.disk != { }) {
          fileSystems."/" = { device = "/dev/disk/by-partlabel/disk-main-root"; fsType = "ext4"; };
          # disko does so for a partition of the type EF02.
          boot.loader.grub.devices = map (disk: disk.device)
            (builtins.filter (disk: disk ? content && disk.content.partitions ? boot) (builtins.attrValues config.disko.devices.disk));
        };
      })
    ];

  # As a flake's nixosSystem and our eval.nix do it.
  machine = modules: import (nixpkgs + "/nixos/lib/eval-config.nix") {
    system = "x86_64-linux";
    modules = [ ../../nix/proxmox.nix ../../nix/nixops.nix { system.stateVersion = "24.05"; } ] ++ modules;
  };

  told = modules:
    let
      made = machine modules;
      inherit (made) config;
      messages = assertions: map (one: one.message) (builtins.filter (one: !one.assertion) assertions);
      failed = messages config.assertions;
      isOurs = definition: lib.hasPrefix "${toString ../../nix}/" (toString definition.file);
      # Of all that failed, what our module refuses: NixOS may refuse the same machine for reasons of its own.
      refused = lib.concatMap (definition: messages definition.value)
        (builtins.filter isOurs made.options.assertions.definitionsWithLocations);
      loader = config.boot.loader;
    in
    {
      inherit failed refused;
      inherit (config) warnings;
      evaluates = failed == [ ] && config.system.build.toplevel.drvPath != "";
      loaders = builtins.filter (name: loader.${name}.enable) [ "external" "generic-extlinux-compatible" "grub" "systemd-boot" ];
      grub = lib.concatMap (boot: boot.devices) loader.grub.mirroredBoots;
      efi = { inherit (loader.grub) efiSupport efiInstallAsRemovable; inherit (loader.efi) canTouchEfiVariables; };
      networks = lib.mapAttrs (_: unit: { inherit (unit) matchConfig address dns domains; }) config.systemd.network.networks;
      networkd = config.systemd.network.enable;
      inherit (config.networking) useDHCP nameservers search;
      inherit (config.networking.networkmanager) unmanaged;
      users = lib.genAttrs (lib.intersectLists [ "root" "deploy" ] (builtins.attrNames config.users.users))
        (name: { inherit (config.users.users.${name}.openssh.authorizedKeys) keys; inherit (config.users.users.${name}) isNormalUser extraGroups; });
      exported = import ../../nix/export.nix config.deployment.proxmox;
    };
}
