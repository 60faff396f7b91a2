# What the installer's ISO is called, which says what is in it: refusals.nix and the documents rely on the name.
{ config, lib, options, ... }:

let
  inherit (lib) mkForce mkOption types;
  fileName = lib.concatStringsSep "-" ([ "nixops-proxmox-installer" ] ++ config.installer.fileSystems) + ".iso";
in
{
  options.installer.fileSystems = mkOption {
    type = types.listOf types.str;
    default = [ ];
    example = [ "zfs" ];
    description = "File systems that the installer can make, beside btrfs, ext4, vfat and xfs. They are in the ISO's name.";
  };

  config = lib.mkMerge [
    { boot.supportedFilesystems = mkForce config.installer.fileSystems; }
    # NixOS 25.05 gave the option this name.
    (if options ? image && options.image ? fileName then { image.fileName = mkForce fileName; } else { isoImage.isoName = mkForce fileName; })
  ];
}
