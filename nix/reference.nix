# The options below `deployment.proxmox` as data, for the option reference and for the comparison with Python's
# specification. `lib`: the folder of nixpkgs' lib, which then evaluates the whole module; without it, our own stand-in
# reads the declarations. `volumes`: the options of `resources.volumes.NAME` instead. `gateway`: those of the gateway.
{ lib ? null, volumes ? false, gateway ? false }:

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
  ofGateway =
    let
      declarations = { options = (import ./gateway.nix { lib = lib'; config = { }; options = { }; pkgs = { }; }).options.services.nixops-proxmox.gateway; };
      evaluated = (lib'.evalModules { modules = [ { _module.check = false; _module.args.pkgs = { }; } ./gateway.nix ]; }).options.services.nixops-proxmox.gateway;
    in
    if lib == null then declarations.options else evaluated;
in
reflect (if gateway then ofGateway else if volumes then ofVolumes else if lib == null then declared else evaluated)
