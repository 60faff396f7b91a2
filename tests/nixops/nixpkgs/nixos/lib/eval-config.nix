{ modules, specialArgs ? { }, system ? null, ... }:

let
  pkgs = import ../.. { };
in
pkgs.lib.evalModules {
  specialArgs = { modulesPath = toString ../.; } // specialArgs;
  modules = modules ++ [
    ../system.nix
    { _module.args.pkgs = pkgs; }
    (pkgs.lib.optionalAttrs (system != null) { nixpkgs.system = pkgs.lib.mkDefault system; })
  ];
}
