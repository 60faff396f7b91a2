# The options below `deployment.proxmox` as data, for the option reference and for the comparison with Python's
# specification. `lib`: the folder of nixpkgs' lib, which then evaluates the whole module; without it, our own stand-in
# reads the declarations. `volumes`: the options of `resources.volumes.NAME` instead.
{ lib ? null, volumes ? false }:

let
  reflect = import ./reflect.nix;
  lib' = import (if lib == null then ./stand-in.nix else lib);

  surroundings.options = lib'.genAttrs
    [ "boot" "services" "users" "fileSystems" "networking" "nix" "security" "systemd" "nixpkgs" "warnings" "assertions" ]
    (_: lib'.mkOption { type = lib'.types.anything; default = { }; });

  declared =
    let declarations = import ./options.nix { lib = lib'; }; in
    declarations.options // declarations.renamedOptions // declarations.replaced // declarations.secrets
    // { inherit ((import ./guest.nix { lib = lib'; config = { }; options = { }; extendModules = null; }).options.deployment.proxmox) guest; };

  evaluated = (lib'.evalModules { modules = [ surroundings ./proxmox.nix ]; }).options.deployment.proxmox;
  ofVolumes =
    let declarations.options = (import ./options.nix { lib = lib'; }).volumeOptions; in
    if lib == null then declarations.options else (lib'.evalModules { modules = [ declarations ]; }).options;
in
reflect (if volumes then ofVolumes else if lib == null then declared else evaluated)
