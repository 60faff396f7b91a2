# The configuration that we generate for `install.method = "configuration"`, as the installer evaluates it: beside what
# nixos-generate-config writes, and without our module.
{ nixpkgs, file }:

let
  rig = import ./rig.nix { inherit nixpkgs; };
  inherit (rig) lib;
  made = import (nixpkgs + "/nixos/lib/eval-config.nix") { system = "x86_64-linux"; modules = [ file ]; };
  inherit (made) config;
  sudo = lib.last config.security.sudo.extraRules;
in
{
  failed = map (one: one.message) (builtins.filter (one: !one.assertion) config.assertions);
  evaluates = config.system.build.toplevel.drvPath != "";
  users = lib.genAttrs (lib.intersectLists [ "deploy" "root" ] (builtins.attrNames config.users.users)) (name: {
    inherit (config.users.users.${name}) extraGroups isNormalUser;
    inherit (config.users.users.${name}.openssh.authorizedKeys) keys;
  });
  sudo = { inherit (sudo) users; inherit (lib.head sudo.commands) command options; };
  inherit (config.networking) hostName nameservers useDHCP;
  inherit (config.services.openssh) ports;
  addresses = lib.mapAttrs (_: unit: unit.address) config.systemd.network.networks;
  loader = lib.filter (name: config.boot.loader.${name}.enable) [ "grub" "systemd-boot" ];
}
