# Stand-ins for the packages of nixpkgs around the real lib, so that flake.nix, the installer's module and the NixOps 4
# provider can be evaluated without nixpkgs. A package is a derivation that nobody builds.
{ lib }:

let
  lib' = import lib;
  package = name: derivation { inherit name; system = "x86_64-linux"; builder = "/bin/sh"; } // {
    dependencies = [ ];
    pname = name;
    outPath = "/packages/${name}";
  };
  packages = names: lib'.genAttrs names package;

  python3Packages = packages [
    "setuptools" "proxmoxer" "requests" "requests-toolbelt" "websocket-client" "paramiko" "pydantic" "sqlalchemy" "rich" "pluggy" "typeguard"
    "shtab" "psycopg" "aiohttp" "asyncssh" "qemu-qmp" "virtualenv" "mypy" "pytest" "pytest-timeout" "pytest-xdist"
    "hypothesis" "jsonschema" "types-requests" "types-paramiko"
  ] // {
    buildPythonApplication = given: package given.pname // { inherit (given) dependencies meta; };
    toPythonModule = given: given // { isPythonModule = true; };
  };

  pkgs = packages [
    "openssh" "nix" "shellcheck" "git" "postgresql" "qemu" "xorriso" "iproute2" "dnsmasq" "ruff" "btrfs-progs" "clevis" "cryptsetup"
    "dosfstools" "e2fsprogs" "gptfdisk" "jq" "lvm2" "mdadm" "parted" "rsync" "util-linux" "xfsprogs"
  ] // {
    inherit lib python3Packages;
    python3 = package "python3" // { withPackages = choose: builtins.seq (builtins.length (choose python3Packages)) (package "python3-env"); };
    callPackage = path: given:
      let make = import path; in
      make (builtins.intersectAttrs (builtins.functionArgs make) (pkgs // { lib = lib'; }) // given);
    mkShell = given: package "shell" // { inherit (given) packages; };
    runCommand = name: given: script: builtins.seq (builtins.stringLength script) (package name);
    writeShellScript = name: text: "/scripts/${name}";
  };

  nixpkgs = {
    outPath = "/nixpkgs";
    lib = lib' // {
      nixosSystem = { system, modules }: {
        config.system.build = {
          isoImage = package (installation false modules).isoImage.isoName;
          tarball = package "container-template";
        };
      };
    };
    legacyPackages = lib'.genAttrs [ "x86_64-linux" "aarch64-linux" ] (_: pkgs);
  };

  self = { outPath = "/self"; } // (import ../../flake.nix).outputs { inherit self nixpkgs; };

  open = lib'.mkOption { type = lib'.types.attrsOf lib'.types.anything; default = { }; };

  installation = newer: modules: (lib'.evalModules {
    specialArgs = { modulesPath = toString ./modules; pkgs = pkgs; };
    modules = modules ++ [{
      options = lib'.genAttrs [ "documentation" "environment" "isoImage" "networking" "nix" "services" "systemd" "zramSwap" ] (_: open) // {
        system.nixos = open;
        boot = open' ((lib'.genAttrs [ "supportedFilesystems" "kernelParams" ] (_: words)));
      } // lib'.optionalAttrs newer { image.fileName = lib'.mkOption { type = lib'.types.str; default = "nixos.iso"; }; };
      config.system.nixos.label = "24.11";
    }];
  }).config;
  words = lib'.mkOption { type = lib'.types.listOf lib'.types.str; default = [ ]; };
  open' = options: lib'.mkOption {
    type = lib'.types.submodule { freeformType = lib'.types.attrsOf lib'.types.anything; inherit options; };
    default = { };
  };
in
{
  flake = {
    packages = builtins.mapAttrs (_: builtins.mapAttrs (_: one: one.name)) self.packages;
    apps = builtins.mapAttrs (_: builtins.mapAttrs (_: one: one.program)) self.apps;
    checks = builtins.mapAttrs (_: builtins.mapAttrs (_: one: one.name)) self.checks;
    shells = builtins.mapAttrs (_: one: builtins.length one.default.packages) self.devShells;
    plugin = builtins.mapAttrs (_: one: one.isPythonModule) self.nixopsPlugin;
    modules = builtins.mapAttrs (_: toString) self.nixosModules;
    overlay = (self.overlays.default pkgs { }).nixops-proxmox.name;
    template = builtins.pathExists (self.templates.default.path + "/flake.nix");
    provider = builtins.attrNames self.modules.nixops4Provider;
  };

  installer = installation false [ ../../nix/installer-iso.nix ];

  # `newer`: as NixOS is since 25.05.
  installerWith = { newer, fileSystems }:
    let made = installation newer [ ../../nix/installer-iso.nix { installer = { inherit fileSystems; }; } ]; in {
      name = if newer then made.image.fileName else made.isoImage.isoName;
      fileSystems = lib'.naturalSort made.boot.supportedFilesystems;
    };

  # `nixops4`: the folder of NixOps 4's own Nix files.
  provider = nixops4:
    let
      made = lib'.evalModules {
        class = "nixops4Provider";
        specialArgs.resourceProviderSystem = "x86_64-linux";
        modules = [ self.modules.nixops4Provider.default ]
          ++ (if nixops4 == null then [ ./nixops4.nix ] else [ (nixops4 + "/nix/provider/provider.nix") ]);
      };
      options = module: builtins.attrNames (removeAttrs (lib'.evalModules { modules = [ module ]; }).options [ "_module" ]);
    in
    {
      inherit (made.config) executable;
      types = builtins.mapAttrs
        (_: one: { inherit (one) requireState; inputs = options one.inputs; outputs = options one.outputs; })
        made.config.resourceTypes;
    };

  # The plugin expression, called as NixOps 2 calls it.
  plugin =
    let
      expression = import ../../nix;
      optionalAttrs = condition: set: if condition then set else { };
      exported = targetEnv: map
        (one: one { deployment = { inherit targetEnv; proxmox = { disks = [ ]; network = [ ]; nbCores = null; memory = 5; guest = { }; }; }; })
        (expression.config_exporters { inherit optionalAttrs; pkgs = { }; });
    in
    {
      names = builtins.attrNames expression;
      options = map (one: if builtins.isFunction one then "a module" else toString one) expression.options;
      ours = exported "proxmox";
      other = exported "none";
      resources = expression.resources {
        evalResources = file: set: "${if builtins.isFunction file then "a module" else toString file}: ${builtins.concatStringsSep " " (builtins.attrNames set)}";
        zipAttrs = builtins.zipAttrsWith (_: values: values);
        resourcesByType.volumes = [{ data = { }; }];
      };
    };
}
