# Boot loaders with the definitions, priorities and assertions of NixOS's: GRUB is on unless another loader says otherwise,
# `device` becomes an entry of `devices`, which becomes one of `mirroredBoots`, each at the priority of a user's own words;
# and two loaders are an error.
{ config, lib, ... }:

let
  inherit (lib) mkDefault mkIf mkMerge mkOption types;
  option = type: default: mkOption { inherit type default; };
  switch = option types.bool false;

  loader = config.boot.loader;
  inherit (loader) grub;
  installs = lib.concatMap (boot: lib.filter (device: device != "nodev") boot.devices) grub.mirroredBoots;
in
{
  options.boot.isContainer = switch;
  options.boot.loader = {
    efi.canTouchEfiVariables = switch;
    efi.efiSysMountPoint = option types.str "/boot";
    timeout = option (types.nullOr types.int) 5;
    grub = {
      enable = option types.bool (!config.boot.isContainer);
      device = option types.str "";
      devices = option (types.listOf types.str) [ ];
      extraPrepareConfig = option types.lines "";
      efiSupport = switch;
      efiInstallAsRemovable = switch;
      mirroredBoots = option
        (types.listOf (types.submodule {
          options = {
            path = mkOption { type = types.str; };
            devices = option (types.listOf types.str) [ ];
            efiSysMountPoint = option (types.nullOr types.str) null;
          };
        })) [ ];
    };
    systemd-boot.enable = switch;
    external.enable = switch;
    external.installHook = mkOption { type = types.path; };
    generic-extlinux-compatible.enable = switch;
  };

  # "defined multiple times" where two loaders are on.
  options.system.build.installBootLoader = mkOption { type = types.unique { message = ""; } types.raw; default = null; };

  config = mkMerge [
    (mkIf grub.enable {
      system.build.installBootLoader = "grub";
      boot.loader.grub.devices = lib.optional (grub.device != "") grub.device;
      boot.loader.grub.mirroredBoots = lib.optionals (grub.devices != [ ]) [
        { path = "/boot"; inherit (grub) devices; inherit (loader.efi) efiSysMountPoint; }
      ];
      assertions = [
        {
          assertion = grub.mirroredBoots != [ ];
          message = "You must set the option 'boot.loader.grub.devices' or 'boot.loader.grub.mirroredBoots' to make the system bootable.";
        }
        {
          assertion = grub.efiSupport || lib.unique installs == installs;
          message = "You cannot have duplicated devices in mirroredBoots";
        }
        {
          assertion = grub.efiInstallAsRemovable -> grub.efiSupport;
          message = "efiInstallAsRemovable wants boot.loader.grub.efiSupport";
        }
        {
          assertion = grub.efiInstallAsRemovable -> !loader.efi.canTouchEfiVariables;
          message = "efiInstallAsRemovable wants boot.loader.efi.canTouchEfiVariables off";
        }
      ];
    })
    (mkIf loader.systemd-boot.enable {
      boot.loader.grub.enable = mkDefault false;
      system.build.installBootLoader = "systemd-boot";
    })
    (mkIf loader.external.enable {
      boot.loader.grub.enable = mkDefault false;
      boot.loader.systemd-boot.enable = mkDefault false;
      system.build.installBootLoader = loader.external.installHook;
    })
    (mkIf loader.generic-extlinux-compatible.enable { system.build.installBootLoader = "extlinux"; })
  ];
}
