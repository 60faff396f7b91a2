# A tree of options as plain data: for each its type, default, example and description. Works on the real lib's options
# (declared, or evaluated by evalModules) and on those of ./stand-in.nix.
let
  inherit (builtins) attrNames filter isAttrs listToAttrs map;

  values = type: type.functor.payload.values or type.functor.payload;

  kind = type:
    let nested = type.nestedTypes or { }; in
    if type.name == "nullOr" then { null = kind nested.elemType; }
    else if type.name == "listOf" then { list = kind nested.elemType; }
    else if type.name == "attrsOf" || type.name == "lazyAttrsOf" then { attrs = kind nested.elemType; }
    else if type.name == "either" then { either = [ (kind nested.left) (kind nested.right) ]; }
    else if type.name == "enum" then { enum = values type; }
    else if type.name == "submodule" then { submodule = tree (type.getSubOptions [ ]); }
    else if type.name == "intBetween" then { inherit (type) name description; }
    else { inherit (type) name; };

  # Examples and defaults are data, or Nix text.
  data = value: if isAttrs value && value ? _type then value.text or null else value;

  option = declared: {
    type = kind declared.type;
    description = declared.description or "";
    visible = declared.visible or true;
  }
  // (if declared ? default then { default = data (declared.defaultText or declared.default); } else { })
  // (if declared ? example then { example = data declared.example; } else { });

  isOption = value: isAttrs value && (value._type or "") == "option";

  tree = options: listToAttrs (map
    (name: {
      inherit name;
      value = if isOption options.${name} then option options.${name} else { group = tree options.${name}; };
    })
    (filter (name: builtins.substring 0 1 name != "_") (attrNames options)));
in
tree
