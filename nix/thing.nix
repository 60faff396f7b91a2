# The NixOps 2 resources `resources.<option>.NAME`, for each option of kinds.json. On the command line, the same attributes
# are read as they are.
option:

{ lib, name, nodes, ... }:

let
  own = { firewalls = "firewall"; ha = "ha"; }; # of machines
  hint = if own ? ${option} then ": say it as ${name}.deployment.proxmox.${own.${option}}" else "";
in
{
  options = (import ./kinds.nix { inherit lib; }).${option}.options;

  # NixOps has one set of names for machines and resources, and would forget the machine without a word. (The module system
  # looks at `_type` before it knows the arguments, hence the merge.)
  config._type = lib.mkMerge [
    (if nodes ? ${name}
    then throw "resources.${option}.${name}: a machine has the same name, and NixOps wants one name for each thing${hint}"
    else "proxmox-${option}")
  ];
}
