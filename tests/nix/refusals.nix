# Machines that would evaluate and could not boot, or not be reached, and their neighbours that can.
{ nixpkgs }:

let
  rig = import ./rig.nix { inherit nixpkgs; };
  base = { deployment.proxmox.disks.scsi0 = { storage = "local-lvm"; size = 8; }; };
  iso = name: { deployment.proxmox.install.iso = "local:iso/${name}.iso"; };
  ours = iso "nixops-proxmox-installer";
  secure = { deployment.proxmox.efi = { storage = "local-lvm"; secureBootKeys = true; }; };
  on = fsType: { fileSystems."/data" = { device = if fsType == "zfs" then "tank/data" else "/dev/disk/by-label/data"; inherit fsType; }; };
  signed = { lib, ... }: {
    boot.loader = { systemd-boot.enable = lib.mkForce false; external = { enable = true; installHook = "/sign"; }; };
  };
  nic = v4: v6: { deployment.proxmox.network.net0 = { bridge = "vmbr0"; ipv4 = v4; ipv6 = v6; }; };
  scripted = { boot.initrd.systemd.enable = false; };
  tang = url: {
    deployment.proxmox.encryption = {
      unlock.tang = [ { inherit url; thumbprint = "K0gjBt2QS6ZG8hvedtdpnXLQ6F9oXqG4l_aGD9KNYJg"; } ];
      recovery.sink.folder = "/home/me/luks";
    };
  };

  machines = {
    plain = [ ours ];
    secureBootUnsigned = [ secure (iso "signed") ];
    secureBootOurIso = [ secure signed ours ];
    secureBootSigned = [ secure signed (iso "signed") ];
    zfs = [ ours (on "zfs") { networking.hostId = "01234567"; } ];
    zfsInTheIso = [ (iso "nixops-proxmox-installer-zfs") (on "zfs") { networking.hostId = "01234567"; } ];
    bcachefs = [ (iso "nixops-proxmox-installer-zfs") (on "bcachefs") ];
    anotherIso = [ (iso "mine") (on "bcachefs") ];
    encrypted = [ ours (tang "http://192.0.2.5:7500") ];
    encryptedBySix = [ ours (tang "http://[2001:db8::5]") ];
    encryptedByName = [ ours (tang "http://tang.example.org") ];
    encryptedByNameInScripts = [ ours (tang "http://tang.example.org") scripted ];
    encryptedStaticInScripts = [ ours (tang "http://192.0.2.5") scripted (nic "10.0.0.2/24" "none") { networking.nameservers = [ "10.0.0.1" ]; } ];
    silentNic = [ ours (nic "none" "none") ];
    static = [ ours (nic "10.0.0.2/24" "none") { networking.nameservers = [ "10.0.0.1" ]; } ];
    staticWithoutNames = [ ours (nic "10.0.0.2/24" "none") ];
  };
in
builtins.mapAttrs (_: more: builtins.intersectAttrs { failed = null; refused = null; warnings = null; } (rig.told ([ base ] ++ more))) machines
