# Types of options: what a value must be, and how several definitions become one.
{ lib }:

let
  inherit (builtins) all attrNames elem foldl' head isAttrs isBool isFloat isFunction isInt isList isString length map tail typeOf;
  inherit (lib) mergeDefinitions showOption;

  told = defs: lib.concatMapStrings
    (def: "\n- In `${def.file}': ${let value = def.value; in if isFunction value then "<function>" else if isAttrs value || isList value then "<${typeOf value}>" else builtins.toJSON value}")
    defs;

  one = loc: defs:
    if length defs == 1 then (head defs).value
    else throw "The option `${showOption loc}' is defined multiple times while it's expected to be unique.${told defs}";
  equal = loc: defs:
    let first = (head defs).value; in
    if all (def: def.value == first) defs then first
    else throw "The option `${showOption loc}' has conflicting definition values:${told defs}";

  type = name: given: {
    _type = "option-type";
    inherit name;
    description = name;
    check = _: true;
    merge = equal;
    nestedTypes = { };
    functor.payload = null;
    getSubOptions = _: { };
    getSubModules = null;
    emptyValue = { };
    typeMerge = other: if other.name == name && (type name given).nestedTypes == { } && name != "enum" then self other else null;
  } // given;
  self = value: value;

  number = name: description: check: type name { inherit check description; };
  isPathLike = value: builtins.isPath value || (isString value && lib.hasPrefix "/" value) || (isAttrs value && value ? outPath);

  # Merging types of one option that is declared twice: only what is inside may differ.
  inside = make: elemType: other:
    let inner = if other.name == (make elemType).name then elemType.typeMerge other.nestedTypes.elemType else null;
    in if inner == null then null else make inner;

  each = loc: elemType: defs: lib.concatMap
    (def: lib.imap1
      (n: value: (mergeDefinitions (loc ++ [ "[definition ${toString n}-entry]" ]) elemType [{ inherit (def) file; inherit value; }]))
      def.value)
    defs;
  named = loc: elemType: defs: lib.genAttrs
    (lib.unique (lib.concatMap (def: attrNames def.value) defs))
    (name: mergeDefinitions (loc ++ [ name ]) elemType
      (lib.concatMap (def: lib.optional (def.value ? ${name}) { inherit (def) file; value = def.value.${name}; }) defs));
  values = builtins.mapAttrs (_: found: found.value);
in
rec {
  inherit (lib) mkOption;
  optionType = type "optionType" { check = value: (value._type or "") == "option-type"; };
  raw = type "raw" { merge = one; };
  unspecified = type "unspecified" { };
  bool = type "bool" { description = "boolean"; check = isBool; };
  int = type "int" { description = "signed integer"; check = isInt; };
  float = type "float" { description = "floating point number"; check = isFloat; };
  str = type "str" { description = "string"; check = isString; };
  string = str;
  nonEmptyStr = type "nonEmptyStr" { check = value: isString value && builtins.match "[ \t\n]*" value == null; };
  path = type "path" { check = isPathLike; };
  package = type "package" { check = value: lib.isDerivation value || isPathLike value; merge = one; };
  attrs = type "attrs" { check = isAttrs; merge = _: foldl' (all: def: all // def.value) { }; emptyValue.value = { }; };
  separatedString = between: type "separatedString" { check = isString; merge = _: defs: lib.concatMapStringsSep between (def: def.value) defs; };
  lines = separatedString "\n";
  commas = separatedString ",";

  ints = rec {
    between = low: high: number "intBetween" "integer between ${toString low} and ${toString high} (both inclusive)" (value: isInt value && value >= low && value <= high);
    unsigned = number "unsignedInt" "unsigned integer, meaning >=0" (value: isInt value && value >= 0);
    positive = number "positiveInt" "positive integer, meaning >0" (value: isInt value && value > 0);
    u16 = between 0 65535;
  };
  port = number "unsignedInt16" "16 bit unsigned integer; between 0 and 65535 (both inclusive)" ints.u16.check;

  enum = values: type "enum" {
    description = "one of ${lib.concatMapStringsSep ", " builtins.toJSON values}";
    check = value: elem value values;
    functor.payload = { inherit values; };
    typeMerge = other: if other.name == "enum" then enum (lib.unique (values ++ other.functor.payload.values)) else null;
  };

  nullOr = elemType: type "nullOr" {
    description = "null or ${elemType.description}";
    check = value: value == null || elemType.check value;
    merge = loc: defs:
      let some = builtins.filter (def: def.value != null) defs; in
      if some == [ ] then null
      else if length some != length defs then throw "The option `${showOption loc}' is defined both null and not null, in ${lib.concatMapStringsSep " and " (def: "`${def.file}'") defs}."
      else elemType.merge loc defs;
    nestedTypes = { inherit elemType; };
    getSubOptions = elemType.getSubOptions;
    emptyValue.value = null;
    typeMerge = inside nullOr elemType;
  };
  listOf = elemType: type "listOf" {
    description = "list of ${elemType.description}";
    check = isList;
    merge = loc: defs: map (found: found.value) (builtins.filter (found: found.isDefined) (each loc elemType defs));
    nestedTypes = { inherit elemType; };
    getSubOptions = elemType.getSubOptions;
    emptyValue.value = [ ];
    typeMerge = inside listOf elemType;
  };
  setOf = name: keep: elemType: type name {
    description = "attribute set of ${elemType.description}";
    check = isAttrs;
    merge = loc: defs: values (keep (named loc elemType defs));
    nestedTypes = { inherit elemType; };
    getSubOptions = elemType.getSubOptions;
    emptyValue.value = { };
    typeMerge = inside (setOf name keep) elemType;
  };
  attrsOf = setOf "attrsOf" (lib.filterAttrs (_: found: found.isDefined));
  lazyAttrsOf = setOf "lazyAttrsOf" self;
  loaOf = attrsOf;

  either = left: right: type "either" {
    description = "${left.description} or ${right.description}";
    check = value: left.check value || right.check value;
    merge = loc: defs:
      if all (def: left.check def.value) defs then left.merge loc defs
      else if all (def: right.check def.value) defs then right.merge loc defs
      else equal loc defs;
    nestedTypes = { inherit left right; };
  };
  oneOf = types: foldl' either (head types) (tail types);
  unique = _: inner: inner // { name = "unique"; merge = one; };
  uniq = unique { };
  functionTo = inner: type "functionTo" { check = isFunction; merge = one; };
  addCheck = inner: more: inner // { check = value: inner.check value && more value; };
  coercedTo = from: change: to: to // {
    check = value: (from.check value && to.check (change value)) || to.check value;
    merge = loc: defs: to.merge loc (map (def: def // { value = if from.check def.value then change def.value else def.value; }) defs);
  };

  anything = type "anything" {
    merge = loc: defs:
      let kinds = lib.unique (map (def: if isAttrs def.value && (def.value ? outPath || def.value ? __toString) then "package" else typeOf def.value) defs); in
      if kinds == [ "set" ] then (attrsOf anything).merge loc defs
      else if kinds == [ "package" ] || kinds == [ "lambda" ] then one loc defs
      else equal loc defs;
  };

  deferredModule = type "deferredModule" {
    check = value: isAttrs value || isFunction value || builtins.isPath value;
    merge = _: defs: { imports = map (def: { _file = def.file; imports = [ def.value ]; }) defs; };
  };

  submodule = module: submoduleWith { modules = lib.toList module; shorthandOnlyDefinesConfig = true; };
  submoduleWith = { modules, specialArgs ? { }, shorthandOnlyDefinesConfig ? false, ... }:
    let
      asModule = def:
        if isAttrs def.value && shorthandOnlyDefinesConfig then { _file = def.file; config = def.value; }
        else { _file = def.file; imports = [ def.value ]; };
      evaluate = loc: more: lib.evalModules {
        inherit specialArgs;
        prefix = loc;
        modules = [{ _module.args.name = lib.mkOptionDefault (if loc == [ ] then "‹name›" else lib.last loc); }] ++ modules ++ more;
      };
    in
    type "submodule" {
      check = value: isAttrs value || isFunction value || builtins.isPath value;
      merge = loc: defs: (evaluate loc (map asModule defs)).config;
      getSubOptions = prefix: removeAttrs (evaluate prefix [ ]).options [ "_module" ];
      getSubModules = modules;
      emptyValue.value = { };
      typeMerge = other:
        if other.name != "submodule" then null
        else submoduleWith { modules = modules ++ other.getSubModules; inherit specialArgs shorthandOnlyDefinesConfig; };
    };
}
