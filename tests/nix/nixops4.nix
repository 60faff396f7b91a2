# What NixOps 4's provider.nix declares, where it is not at hand.
{ lib, ... }:
let
  open = lib.mkOption { type = lib.types.anything; };
in
{
  _class = "nixops4Provider";
  options = lib.genAttrs [ "executable" "name" "description" "sourceBaseUrl" "sourceName" ] (_: open) // {
    resourceTypes = lib.mkOption {
      type = lib.types.attrsOf (lib.types.submodule {
        options = {
          description = open;
          requireState = lib.mkOption { type = lib.types.bool; };
          inputs = lib.mkOption { type = lib.types.deferredModule; };
          outputs = lib.mkOption { type = lib.types.deferredModule; };
        };
      });
    };
  };
}
