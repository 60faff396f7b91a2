# The template that containers are made of: a small NixOS with sshd, the same for all of them. It has no passwords, no keys and
# no host keys: PVE makes these when it unpacks the template, because there is a folder etc/ssh, and tells their fingerprints.
#
#   nix build .#container-template    →  result/tarball/nixops-proxmox-container-x86_64-linux.tar.xz
{ config, lib, modulesPath, pkgs, ... }:

{
  imports = [ "${modulesPath}/virtualisation/lxc-container.nix" ];

  services.openssh = {
    enable = true;
    settings = {
      PasswordAuthentication = false;
      KbdInteractiveAuthentication = false;
      PermitRootLogin = "prohibit-password";
    };
    hostKeys = [{ type = "ed25519"; path = "/etc/ssh/ssh_host_ed25519_key"; }];
  };

  networking = {
    hostName = lib.mkForce ""; # PVE writes /etc/hostname
    useDHCP = false;
    useHostResolvConf = false;
    firewall.enable = false;
  };
  systemd.network.enable = true;
  systemd.mounts = [{ where = "/sys/kernel/debug"; enable = false; }];
  systemd.tmpfiles.rules = [ "L+ /run/current-system - - - - /nix/var/nix/profiles/system" ];

  documentation.enable = lib.mkForce false;
  nix.settings = {
    experimental-features = [ "nix-command" "flakes" ];
    trusted-users = [ "root" ];
  };

  system.build.tarball = lib.mkForce (pkgs.callPackage "${modulesPath}/../lib/make-system-tarball.nix" {
    fileName = "nixops-proxmox-container-${pkgs.stdenv.hostPlatform.system}";
    contents = [ ];
    storeContents = [{ object = config.system.build.toplevel + "/init"; symlink = "/sbin/init"; }];
    extraCommands = "mkdir -p root etc/ssh etc/systemd/network";
  });
}
