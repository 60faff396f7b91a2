# As much of nixpkgs' lib as is needed to read a tree of option declarations without nixpkgs. Types say what they are by
# the same attributes as the real ones; nothing is merged or checked.
let
  type = name: more: { _type = "option-type"; inherit name; description = name; nestedTypes = { }; } // more;
  between = low: high: type "intBetween" { description = "integer between ${toString low} and ${toString high} (both inclusive)"; };
  noConfig = _: { };
in
rec {
  mkOption = declaration: declaration // { _type = "option"; };
  mkIf = _: value: value;
  mkDefault = value: value;
  mkOverride = _: value: value;
  mkForce = value: value;
  genAttrs = names: make: builtins.listToAttrs (map (name: { inherit name; value = make name; }) names);
  filterAttrs = keep: set: removeAttrs set (builtins.filter (name: !keep name set.${name}) (builtins.attrNames set));
  literalExpression = text: { _type = "literalExpression"; inherit text; };
  toInt = builtins.fromJSON;

  types = rec {
    bool = type "bool" { };
    int = type "int" { };
    float = type "float" { };
    str = type "str" { };
    path = type "path" { };
    lines = type "separatedString" { };
    anything = type "anything" { };
    raw = type "raw" { };
    port = type "unsignedInt16" { };
    ints = { inherit between; unsigned = type "unsignedInt" { description = "unsigned integer, meaning >=0"; }; };
    enum = values: type "enum" { functor.payload = { inherit values; }; };
    nullOr = elemType: type "nullOr" { nestedTypes = { inherit elemType; }; };
    listOf = elemType: type "listOf" { nestedTypes = { inherit elemType; }; };
    attrsOf = elemType: type "attrsOf" { nestedTypes = { inherit elemType; }; };
    either = left: right: type "either" { nestedTypes = { inherit left right; }; };
    oneOf = all: builtins.foldl' either (builtins.head all) (builtins.tail all);
    submodule = module: type "submodule" {
      getSubOptions = _: (if builtins.isFunction module then module { config = noConfig; } else module).options;
    };
  };
}
