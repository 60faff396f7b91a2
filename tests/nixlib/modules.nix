# The module system: modules become a tree of options, and what they say becomes the values of these options.
{ lib }:

let
  inherit (builtins) addErrorContext attrNames concatMap filter foldl' functionArgs head isAttrs isFunction isList isPath isString
    length map mapAttrs removeAttrs seq sort;
  inherit (lib) isOption isType mkIf mkOptionDefault mkOverride showOption types;

  # ---- modules ----

  structure = [ "_file" "_class" "key" "imports" "require" "disabledModules" "options" "config" "freeformType" "meta" ];

  call = arguments: module:
    if !isFunction module then module
    else
      let
        wanted = functionArgs module;
        context = name: addErrorContext "while evaluating the module argument `${name}':";
      in
      module (arguments.given // mapAttrs (name: _: context name (arguments.given.${name} or arguments.late.${name})) wanted);

  # One module in full, and all that it imports.
  load = arguments: file: module:
    let
      isFile = isPath module || isString module;
      read = call arguments (if isFile then import module else module);
      source = read._file or (if isFile then toString module else file);
      whole = read ? config || read ? options;
      own = {
        key = if isFile then toString module else read.key or null;
        file = source;
        options = read.options or { };
        config = lib.mkMerge ([ (if whole then read.config or { } else removeAttrs read structure) ]
          ++ lib.optional (read ? freeformType) { _module = { inherit (read) freeformType; }; });
      };
      stray = filter (name: !(lib.elem name structure)) (attrNames read);
    in
    if whole && stray != [ ] then throw "Module `${source}' has an unsupported attribute `${head stray}'."
    else concatMap (load arguments source) (read.imports or [ ] ++ read.require or [ ]) ++ [ own ];

  once = modules: (foldl'
    (all: one:
      if one.key != null && all.seen ? ${one.key} then all
      else { seen = all.seen // (if one.key == null then { } else { ${one.key} = true; }); list = all.list ++ [ one ]; })
    { seen = { }; list = [ ]; }
    modules).list;

  # ---- options ----

  again = loc: first: second:
    let merged = if first ? type && second ? type then first.type.typeMerge second.type else null; in
    if merged != null || !(first ? type) || !(second ? type)
    then first // second // lib.optionalAttrs (merged != null) { type = merged; }
    else throw "The option `${showOption loc}' is already declared.";

  declare = loc: trees: lib.genAttrs (lib.unique (concatMap attrNames trees)) (name:
    let
      here = loc ++ [ name ];
      found = map (tree: tree.${name}) (filter (tree: tree ? ${name}) trees);
    in
    if lib.all isOption found then foldl' (again here) (head found) (builtins.tail found)
    else if lib.any isOption found then throw "The option `${showOption here}' is also a prefix of other options."
    else declare here found);

  # ---- definitions ----

  # What a definition says of a set's attributes: conditions and priorities go down to each.
  down = value:
    if isType "merge" value then concatMap down value.contents
    else if isType "if" value then map (mapAttrs (_: mkIf value.condition)) (down value.content)
    else if isType "override" value then map (mapAttrs (_: mkOverride value.priority)) (down value.content)
    else [ value ];

  discharge = value:
    if isType "merge" value then concatMap discharge value.contents
    else if isType "if" value then (if value.condition then discharge value.content else [ ])
    else [ value ];

  priority = def: if isType "override" def.value then def.value.priority else 100;
  place = def: if isType "order" def.value then def.value.priority else 1000;
  bare = kind: def: if isType kind def.value then def // { value = def.value.content; } else def;

  mergeDefinitions = loc: type: given:
    let
      said = concatMap (def: map (value: { inherit (def) file; inherit value; }) (discharge def.value)) given;
      highestPrio = foldl' (low: def: lib.min low (priority def)) 9999 said;
      strongest = map (bare "override") (filter (def: priority def == highestPrio) said);
      ordered =
        if lib.any (def: isType "order" def.value) strongest
        then map (bare "order") (sort (a: b: place a < place b) strongest)
        else strongest;
      wrong = filter (def: !type.check def.value) ordered;
    in
    {
      inherit highestPrio;
      definitionsWithLocations = ordered;
      isDefined = ordered != [ ];
      value =
        if ordered == [ ] then
          type.emptyValue.value or (throw "The option `${showOption loc}' was accessed but has no value defined. Try setting the option.")
        else if wrong != [ ] then
          throw "A definition for option `${showOption loc}' is not of type `${type.description}'. Definition values:\n- In `${(head wrong).file}': ${shown (head wrong).value}"
        else type.merge loc ordered;
    };
  shown = value: if isFunction value then "<function>" else if isAttrs value || isList value then "<${builtins.typeOf value}>" else builtins.toJSON value;

  decide = loc: option: defs:
    let
      type = option.type or types.unspecified;
      default = lib.optional (option ? default) { file = "the option's declaration"; value = mkOptionDefault option.default; };
      found = mergeDefinitions loc type (defs ++ default);
      value = (option.apply or lib.id) (
        if option.readOnly or false && length defs > 1 then throw "The option `${showOption loc}' is read-only, but it's set multiple times."
        else if !found.isDefined then
          throw "The option `${showOption loc}' was accessed but has no value defined. Try setting the option."
        else found.value);
    in
    option // {
      inherit loc type;
      inherit (found) highestPrio isDefined definitionsWithLocations;
      value = addErrorContext "while evaluating the option `${showOption loc}':" value;
      files = map (def: def.file) found.definitionsWithLocations;
      definitions = map (def: def.value) found.definitionsWithLocations;
      __toString = _: showOption loc;
    };

  # The tree of options with their values, and what was said of options that are not there.
  fill = loc: tree: defs:
    let
      said = concatMap (def: map (value: { inherit (def) file; inherit value; }) (down def.value)) defs;
      strange = filter (def: !isAttrs def.value) said;
      of = name: concatMap (def: lib.optional (def.value ? ${name}) { inherit (def) file; value = def.value.${name}; }) said;
      inner = mapAttrs (name: node: if isOption node then { options = decide (loc ++ [ name ]) node (of name); unknown = [ ]; } else fill (loc ++ [ name ]) node (of name)) tree;
    in
    {
      options = mapAttrs (_: one: one.options) inner; # whose names may decide what is said, so nothing is looked at for them
      unknown =
        if strange != [ ] then throw "The option `${showOption loc}' is a set of options, and `${(head strange).file}' gives it another value."
        else concatMap (name: inner.${name}.unknown) (attrNames tree)
        ++ concatMap (def: map (name: { inherit (def) file; path = loc ++ [ name ]; value = def.value.${name}; }) (attrNames (removeAttrs def.value (attrNames tree)))) said;
    };

  valuesOf = mapAttrs (_: node: if isOption node then node.value else valuesOf node);

  builtin = {
    key = null;
    file = "the module system";
    config = { };
    options._module = {
      args = lib.mkOption { type = types.lazyAttrsOf types.raw; default = { }; };
      check = lib.mkOption { type = types.bool; default = true; };
      freeformType = lib.mkOption { type = types.nullOr types.optionType; default = null; };
    };
  };

  evalModules = { modules, specialArgs ? { }, prefix ? [ ], ... }:
    let
      arguments = {
        given = { inherit config lib options extendModules; } // specialArgs;
        late = config._module.args;
      };
      all = [ builtin ] ++ once (concatMap (load arguments "<unknown-file>") modules);
      tree = declare prefix (map (one: one.options) all);
      filled = fill prefix tree (map (one: { inherit (one) file; value = one.config; }) all);
      inherit (filled) options;
      declared = valuesOf options;
      free = declared._module.freeformType;
      below = def: { inherit (def) file; value = lib.setAttrByPath (lib.foldl' (path: _: builtins.tail path) def.path prefix) def.value; };
      config = if free == null then declared else lib.recursiveUpdate (free.merge prefix (map below filled.unknown)) declared;
      # Properties that come to nothing are no definition; but what they would define must be there, too.
      first = head filled.unknown;
      check =
        if !declared._module.check || free != null || filled.unknown == [ ] then null
        else throw "The option `${showOption first.path}' does not exist. Definition values:\n- In `${first.file}'";
      extendModules = { modules ? [ ], specialArgs ? { }, prefix ? [ ] }: evalModules (given // {
        modules = given.modules ++ modules;
        specialArgs = given.specialArgs // specialArgs;
      });
      given = { inherit modules specialArgs prefix; };
    in
    { inherit options extendModules; config = seq check (removeAttrs config (lib.optional (prefix != [ ]) "_module")); _module = declared._module; type = types.submoduleWith { inherit modules; }; };
in
{ inherit evalModules mergeDefinitions; }
