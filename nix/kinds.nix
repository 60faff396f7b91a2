# What a network describes under `resources`, beside volumes, as declarations of options: for NixOps 2 and for NixOps 4.
# `kinds`: as nix/kinds.json, which Python's specification writes; a package that brings a kind has it in a file of its own.
{ lib, kinds ? builtins.fromJSON (builtins.readFile ./kinds.json) }:

let
  inherit (lib) mkOption types;

  type = said:
    if said ? null then types.nullOr (type said.null)
    else if said ? list then types.listOf (type said.list)
    else if said ? attrs then types.attrsOf (type said.attrs)
    else if said ? enum then types.enum said.enum
    else if said ? either then types.either (type (builtins.head said.either)) (type (builtins.elemAt said.either 1))
    else if said ? submodule then types.submodule { options = options "" said.submodule; }
    else if isFile said then types.either types.str types.path
    else types.${said.name};
  isFile = said: (said.name or null) == "file";

  options = where: builtins.mapAttrs (name: said:
    mkOption ({
      type = type said.type;
      description = "As `${where}${name}` of the command line's networks.";
    } // (if said ? default then { inherit (said) default; } else { })
      # A path stays where it is: it is not copied into the store.
      // (if isFile said.type then { apply = toString; } else { })));
in
builtins.mapAttrs
  (option: kind: {
    inherit (kind) type;
    options = options "resources.${option}.<name>." kind.options;
  })
  kinds
