# What a NixOS in an LXC container of Proxmox VE is like: no kernel, no boot loader, and a network that PVE configures at each
# start. Everything is a default that a machine may override.
{ config, lib, options, pkgs, ... }:

let
  inherit (lib) mkDefault mkIf mkOverride;

  cfg = config.deployment.proxmox;
  isOurs = if options.deployment ? targetEnv then config.deployment.targetEnv == "proxmox" else true;

  refuse = because: message: { assertion = !because; inherit message; };
in
{
  config = mkIf (isOurs && cfg.kind == "container") {
    boot.isContainer = mkDefault true;

    # PVE starts /sbin/init. A switch, or a rollback, is a link.
    system.build.installBootLoader = mkDefault (pkgs.writeScript "nixops-proxmox-link-init" ''
      #! ${pkgs.runtimeShell}
      mkdir -p /sbin && ln -sfn "$1/init" /sbin/init
    '');

    # PVE writes /etc/systemd/network, /etc/hostname and /etc/resolv.conf, from what the description says of the NICs.
    networking.hostName = mkOverride 880 "";
    networking.useDHCP = mkOverride 900 false;
    systemd.network.enable = mkDefault true;

    # From 26.05 on, activation is the initrd's, and a container has none (NixOS/nixpkgs#529888).
    systemd.tmpfiles.rules = [ "L+ /run/current-system - - - - /nix/var/nix/profiles/system" ];

    # An unprivileged container may not mount it.
    systemd.mounts = [{ where = "/sys/kernel/debug"; enable = false; }];

    assertions = [
      (refuse (!config.boot.isContainer)
        ''boot.isContainer is off, and deployment.proxmox.kind is "container": a container has no kernel and no boot loader of its own'')
      (refuse (cfg.container == null)
        ''deployment.proxmox.container must be set where kind is "container": its template, and where its root is'')
      (refuse (config.boot.initrd.systemd.enable or false)
        ''boot.initrd.systemd.enable is on, and a container has no initrd: switch it off'')
    ];
  };
}
