# As much of NixOS as these tests look at: options that others define, and a system in NixOS's shape. Strict where it
# matters: only the keys of the configuration may log in once it is active.
{ config, lib, pkgs, ... }:

let
  inherit (lib) mkOption types;
  open = mkOption { type = types.attrsOf types.anything; default = { }; };
  option = type: default: mkOption { inherit type default; };
  words = option (types.listOf types.str) [ ];

  # Who may log in, who may become root without a password, and who may give paths to Nix.
  people = lib.filterAttrs (name: user: name == "root" || user.isNormalUser) config.users.users;
  keysOf = name: user: "printf '%s\n' ${lib.escapeShellArgs user.openssh.authorizedKeys.keys} > $out/etc/keys/${name}\n";
  isFree = one: one.command or null == "ALL" && builtins.elem "NOPASSWD" (one.options or [ ]);
  sudoers = lib.concatMap (rule: lib.optionals (lib.any isFree rule.commands) (rule.users or [ ])) config.security.sudo.extraRules;
  trusted = config.nix.settings.trusted-users or [ ];

  failed = builtins.filter (one: !one.assertion) config.assertions;

  # What other tests read: the configuration that became this system.
  told = builtins.toJSON {
    inherit (config) fileSystems;
    loader = removeAttrs config.boot.loader [ "external" ];
    inherit (config.networking) hostName domain extraHosts hosts;
    publicIPv4 = config.networking.publicIPv4 or null;
    networks = config.systemd.network.networks;
    knownHosts = config.services.openssh.knownHosts;
  };
in
{
  imports = [ ./boot.nix ./forge.nix ./gateway.nix ./network.nix ./services.nix ./users.nix ];

  options = {
    assertions = option (types.listOf types.raw) [ ];
    warnings = words;
    environment = open;
    nixpkgs.system = option types.str builtins.currentSystem;
    nixpkgs.hostPlatform = mkOption { type = types.str; };
    swapDevices = option (types.listOf types.raw) [ ];
    hardware.enableRedistributableFirmware = option types.bool false;
    hardware.cpu.intel.updateMicrocode = option types.bool false;
    nix = open;
    fileSystems = mkOption {
      default = { };
      type = types.attrsOf (types.submodule {
        options = {
          device = option (types.nullOr types.str) null;
          fsType = option types.str "auto";
          options = words;
          neededForBoot = option types.bool false;
          autoFormat = option types.bool false;
        };
      });
    };
    boot = {
      growPartition = option types.bool false;
      kernelModules = words;
      kernelParams = words;
      extraModulePackages = option (types.listOf types.raw) [ ];
      initrd.kernelModules = words;
      initrd.availableKernelModules = words;
      initrd.systemd = {
        enable = option types.bool false;
        network.enable = option types.bool false;
        network.networks = open;
        services = open;
        storePaths = words;
        contents = open;
        package = option types.raw "/systemd";
      };
      initrd.secrets = open;
      initrd.network.ssh = open;
      initrd.network.enable = option types.bool false;
      initrd.luks.devices = mkOption {
        default = { };
        type = types.attrsOf (types.submodule {
          options = {
            device = mkOption { type = types.str; };
            allowDiscards = option types.bool false;
            crypttabExtraOpts = words;
          };
        });
      };
      initrd.clevis = {
        enable = option types.bool false;
        useTang = option types.bool false;
        devices = mkOption {
          default = { };
          type = types.attrsOf (types.submodule { options.secretFile = mkOption { type = types.path; }; });
        };
      };
      initrd.services.udev.rules = option types.lines "";
      initrd.services.lvm.enable = option types.bool false;
      supportedFilesystems = words;
    };
    networking.hostName = option types.str "";
    networking.domain = option (types.nullOr types.str) null;
    networking.hosts = option (types.attrsOf (types.listOf types.str)) { };
    networking.extraHosts = option types.lines "";
    services.postgresql.enable = option types.bool false;
    services.udev.extraRules = option types.lines "";
    services.qemuGuest.enable = option types.bool false;
    systemd.services = open;
    system = {
      activationScripts = open;
      stateVersion = option types.str "24.11";
      nixos.release = option types.str "24.11";
      nixos.versionSuffix = option types.str "";
      build.toplevel = mkOption { type = types.raw; };
    };
    demo.message = option types.str "hello";
  };

  config.system.build.toplevel =
    if failed != [ ] then throw "\nFailed assertions:\n${lib.concatMapStringsSep "\n" (one: "- ${one.message}") failed}"
    else lib.showWarnings config.warnings (pkgs.runCommand "nixos-system-${config.networking.hostName}" { inherit told; } ''
      mkdir -p $out/bin $out/etc
      printf '%s' "$told" > $out/told.json
      echo ${lib.escapeShellArg config.demo.message} > $out/message
      mkdir $out/etc/keys
      ${lib.concatStrings (lib.mapAttrsToList keysOf people)}
      printf '%s ALL=(ALL:ALL) NOPASSWD: ALL\n' ${lib.escapeShellArgs sudoers} > $out/etc/sudoers
      echo trusted-users = root ${lib.escapeShellArgs trusted} > $out/etc/trusted
      echo ${config.system.nixos.release} > $out/nixos-version
      echo ${config.nixpkgs.system} > $out/system
      sed "s|@system@|$out|" ${./activate.sh} > $out/activate
      sed "s|@system@|$out|" ${./switch-to-configuration.sh} > $out/bin/switch-to-configuration
      chmod 0555 $out/activate $out/bin/switch-to-configuration
    '');
}
