# Where a machine finds its volumes, by name. Python (spec/volume.py) derives the same serials. `identity`: of the
# deployment, its name on the command line and its UUID in NixOps 2.
{ identity, names, container ? false }:

let
  place = if container then "/mnt/nixops-volumes/" else "/dev/disk/by-id/scsi-0QEMU_QEMU_HARDDISK_";
in

builtins.listToAttrs (map
  (name: {
    inherit name;
    value = "${place}npv-${builtins.substring 0 16 (builtins.hashString "sha256" "${identity}/${name}")}";
  })
  names)
