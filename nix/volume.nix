# The NixOps 2 resource `resources.volumes.NAME`: a disk that outlives the machines which have it attached. On the command
# line, the same attributes are read as they are.
{ lib, name, nodes, ... }:

let
  inherit (import ./options.nix { inherit lib; }) volumeOptions;
in
{
  options = volumeOptions;

  # NixOps has one set of names for machines and resources, and would forget the machine without a word. (The module system
  # looks at `_type` before it knows the arguments, hence the merge.)
  config._type = lib.mkMerge [
    (if nodes ? ${name} then throw "resources.volumes.${name}: a machine has the same name, and NixOps wants one name for each thing"
    else "proxmox-volume")
  ];
}
