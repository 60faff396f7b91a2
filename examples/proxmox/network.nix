# For a real Proxmox VE: a starting point to copy. Every machine is a NixOS module; nixpkgs comes from NIX_PATH, or from
# `network.nixpkgs`. Options that are left out are left alone: Proxmox's own defaults hold.
{
  network.description = "a web server, a bastion, and a database behind it";

  # What all machines have.
  defaults = { lib, ... }: {
    deployment.proxmox = {
      install.iso = lib.mkDefault "local:iso/nixops-proxmox-installer.iso"; # nix build .#installer-iso, then upload it
      cpu.type = lib.mkDefault "host";
      scsiController = "virtio-scsi-single";
      tags = [ "nixos" ];
      ssh.authorizedKeys = [ "ssh-ed25519 AAAA…replace-me me@example" ];
    };
    system.stateVersion = "25.11";
  };

  # IPv4 by DHCP, IPv6 static; UEFI with a TPM; reached over IPv6 first.
  web = {
    deployment.proxmox = {
      memory = 2048;
      cpu.cores = 2;
      bios = "ovmf";
      efi.storage = "local-lvm";
      tpm.storage = "local-lvm";
      disks = [ { storage = "local-lvm"; size = "16G"; discard = true; ssd = true; iothread = true; } ];
      network = [
        {
          bridge = "vmbr0";
          ipv4.method = "dhcp";
          ipv6 = {
            method = "static";
            address = "2001:db8:10::80"; # a documentation prefix: put yours here
            prefix = 64;
            gateway = "2001:db8:10::1";
          };
        }
      ];
      endpoint.families = [ "ipv6" "ipv4" ];
      onboot = true;
    };
    services.nginx.enable = true;
    networking.firewall.allowedTCPPorts = [ 80 ];
  };

  # The way into the inner network: one foot in each.
  bastion = {
    deployment.proxmox = {
      memory = 512;
      disks = [ { storage = "local-lvm"; size = "8G"; } ];
      network = [
        { bridge = "vmbr0"; }
        { bridge = "vmbr1"; tag = 42; ipv4 = { method = "static"; address = "10.42.0.1"; prefix = 24; }; ipv6.method = "none"; }
      ];
    };
  };

  # Reached only through the bastion. The second disk outlives a reinstall: it is never written by one.
  db = {
    deployment.proxmox = {
      memory = 4096;
      disks = [
        { storage = "local-lvm"; size = "16G"; }
        { storage = "local-lvm"; size = "100G"; keep = true; backup = true; }
      ];
      network = [
        { bridge = "vmbr1"; tag = 42; ipv4 = { method = "static"; address = "10.42.0.10"; prefix = 24; }; ipv6.method = "none"; }
      ];
      endpoint.jump = "root@bastion.example.org";
      protection = true; # Proxmox refuses to delete it until this is taken away

      # Runs in the installer, once. DISK_0, DISK_1, … are the disks in the order above; the system's file systems must be
      # mounted below /mnt at the end. Exit status 100 asks for a reboot of the installer, and to be run again.
      install.partition = ''
        set -e
        wipefs -a "$DISK_0"
        sgdisk -n 1:0:+2M -t 1:ef02 -n 2:0:0 -t 2:8300 "$DISK_0"
        udevadm settle
        mkfs.ext4 -q -F -L nixos "$DISK_0-part2"
        mount "$DISK_0-part2" /mnt
        if [ -z "$REINSTALL" ]; then
          mkfs.ext4 -q -F -L data "$DISK_1"
        fi
        mkdir -p /mnt/var/lib/postgresql
        mount "$DISK_1" /mnt/var/lib/postgresql
      '';
    };
    fileSystems."/" = { device = "/dev/disk/by-label/nixos"; fsType = "ext4"; };
    fileSystems."/var/lib/postgresql" = { device = "/dev/disk/by-label/data"; fsType = "ext4"; };
    boot.loader.grub.device = "/dev/sda";
    services.postgresql.enable = true;
  };
}
