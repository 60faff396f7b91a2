# The installer: a small NixOS that the QEMU guest agent lets us into. It has no passwords and no keys of its own; the key
# that may log in is written through the agent, for one installation, into memory.
#
#   nix build .#installer-iso    →  result/iso/nixops-proxmox-installer.iso
{ config, lib, modulesPath, pkgs, ... }:

let
  inherit (lib) mkDefault mkForce;
in
{
  imports = [ "${modulesPath}/installer/cd-dvd/installation-cd-minimal.nix" ./installer-name.nix ];

  # By this file we know that it is the installer, and which one.
  environment.etc."nixops-proxmox-installer".text = "${config.system.nixos.label}\n";

  services.qemuGuest.enable = true;

  services.openssh = {
    enable = true;
    settings = {
      PasswordAuthentication = false;
      KbdInteractiveAuthentication = false;
      PermitRootLogin = mkForce "prohibit-password";
    };
    # Made at every boot, and read back through the agent before the first connection.
    hostKeys = [{ type = "ed25519"; path = "/etc/ssh/ssh_host_ed25519_key"; }];
  };
  systemd.services.sshd.wantedBy = mkForce [ "multi-user.target" ];

  # Whatever the bridge has to offer: DHCP, router advertisements, or both.
  networking = {
    useDHCP = mkForce true;
    networkmanager.enable = mkForce false;
    wireless.enable = mkForce false;
    firewall.enable = mkForce false;
    hostName = mkDefault "installer";
  };

  boot = {
    kernelParams = [ "console=tty0" "console=ttyS0,115200n8" ];
    loader.timeout = mkForce 1;
    initrd.availableKernelModules = [ "virtio_pci" "virtio_blk" "virtio_scsi" "virtio_net" "ahci" "sd_mod" "sr_mod" ];
    supportedFilesystems = mkForce [ "btrfs" "ext4" "vfat" "xfs" ];
    swraid.enable = mkDefault false;
  };

  # What partition scripts, disko and nixos-install want.
  environment.systemPackages = with pkgs; [
    btrfs-progs clevis cryptsetup dosfstools e2fsprogs gptfdisk jq lvm2 mdadm parted rsync util-linux xfsprogs
  ];

  # A VM of 1 GiB must be enough: no documentation, and compressed memory instead of none.
  documentation.enable = mkForce false;
  documentation.nixos.enable = mkForce false;
  zramSwap = { enable = true; memoryPercent = 100; };
  nix.settings = {
    experimental-features = [ "nix-command" "flakes" ];
    max-jobs = mkDefault 1;
    trusted-users = [ "root" ];
  };
  nix.channel.enable = mkDefault false;

  isoImage.squashfsCompression = mkDefault "zstd -Xcompression-level 6";
  isoImage.volumeID = mkDefault "NIXOPS_PROXMOX";
}
