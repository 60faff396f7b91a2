{ modules, ... }:

let
  pkgs = import ../.. { };
in
pkgs.lib.evalModules {
  specialArgs.modulesPath = toString ../.;
  modules = modules ++ [ ../system.nix { _module.args.pkgs = pkgs; } ];
}
