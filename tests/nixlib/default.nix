# As much of nixpkgs' lib as this project's Nix files, the stand-ins beside them and NixOps's own modules ask for, written
# anew and small, so that they are evaluated where no nixpkgs can be had. It means what the original means; where
# NIXOPS_PROXMOX_NIXPKGS names one, the same tests run with that instead.
let
  inherit (builtins) concatLists concatMap concatStringsSep elemAt filter foldl' genList head isFunction length listToAttrs map
    mapAttrs match replaceStrings stringLength substring tail toString;

  lib = builtins // rec {
    types = import ./types.nix { inherit lib; };
    inherit (import ./modules.nix { inherit lib; }) evalModules mergeDefinitions;
    version = "24.11-small";
    versions.majorMinor = _: "24.11";
    trivial.release = "24.11";

    # ---- what modules say ----

    mkOption = declaration: declaration // { _type = "option"; };
    mkEnableOption = name: mkOption { default = false; example = true; description = "Whether to enable ${name}."; type = types.bool; };
    mkIf = condition: content: { _type = "if"; inherit condition content; };
    mkMerge = contents: { _type = "merge"; inherit contents; };
    mkOverride = priority: content: { _type = "override"; inherit priority content; };
    mkOptionDefault = mkOverride 1500;
    mkDefault = mkOverride 1000;
    mkForce = mkOverride 50;
    mkVMOverride = mkOverride 10;
    mkOrder = priority: content: { _type = "order"; inherit priority content; };
    mkBefore = mkOrder 500;
    mkAfter = mkOrder 1500;
    literalExpression = text: { _type = "literalExpression"; inherit text; };
    literalMD = literalExpression;
    mdDoc = text: text;
    isType = kind: value: builtins.isAttrs value && (value._type or "") == kind;
    isOption = isType "option";
    isDerivation = value: (value.type or "") == "derivation";
    showOption = concatStringsSep ".";

    # ---- values, lists and sets ----

    id = value: value;
    const = value: _: value;
    flip = make: a: b: make b a;
    fix = make: let made = make made; in made;
    max = a: b: if a > b then a else b;
    min = a: b: if a < b then a else b;
    boolToString = value: if value then "true" else "false";
    warn = builtins.warn or (text: builtins.trace "warning: ${text}");
    showWarnings = warnings: result: builtins.foldl' (rest: text: warn text rest) result warnings;
    optional = wanted: value: if wanted then [ value ] else [ ];
    optionals = wanted: values: if wanted then values else [ ];
    optionalAttrs = wanted: set: if wanted then set else { };
    optionalString = wanted: text: if wanted then text else "";
    toList = value: if builtins.isList value then value else [ value ];
    flatten = value: if builtins.isList value then concatMap flatten value else [ value ];
    last = list: elemAt list (length list - 1);
    init = list: genList (elemAt list) (length list - 1);
    take = count: list: genList (elemAt list) (min count (length list));
    drop = count: list: genList (n: elemAt list (n + count)) (max 0 (length list - count));
    any = builtins.any;
    range = from: to: if from > to then [ ] else genList (n: from + n) (to - from + 1);
    reverseList = list: genList (n: elemAt list (length list - n - 1)) (length list);
    count = wanted: list: length (filter wanted list);
    fold = foldr;
    foldr = step: start: list: foldl' (all: one: step one all) start (reverseList list);
    findFirst = wanted: default: list: let found = filter wanted list; in if found == [ ] then default else head found;
    unique = foldl' (all: one: if builtins.elem one all then all else all ++ [ one ]) [ ];
    intersectLists = kept: filter (one: builtins.elem one kept);
    subtractLists = gone: filter (one: !builtins.elem one gone);
    sort = builtins.sort;
    naturalSort = builtins.sort builtins.lessThan;
    imap0 = make: list: genList (n: make n (elemAt list n)) (length list);
    imap1 = make: list: genList (n: make (n + 1) (elemAt list n)) (length list);
    zipLists = a: b: genList (n: { fst = elemAt a n; snd = elemAt b n; }) (min (length a) (length b));

    nameValuePair = name: value: { inherit name value; };
    genAttrs = names: make: listToAttrs (map (name: nameValuePair name (make name)) names);
    mapAttrsToList = make: set: map (name: make name set.${name}) (builtins.attrNames set);
    mapAttrs' = make: set: listToAttrs (mapAttrsToList make set);
    filterAttrs = wanted: set: removeAttrs set (filter (name: !wanted name set.${name}) (builtins.attrNames set));
    attrByPath = path: default: set:
      if path == [ ] then set
      else if builtins.isAttrs set && set ? ${head path} then attrByPath (tail path) default set.${head path}
      else default;
    getAttrFromPath = path: attrByPath path (throw "there is no ${showOption path}");
    hasAttrByPath = path: set: attrByPath path null set != null;
    setAttrByPath = path: value: if path == [ ] then value else { ${head path} = setAttrByPath (tail path) value; };
    attrVals = names: set: map (name: set.${name}) names;
    recursiveUpdate = a: b:
      if builtins.isAttrs a && builtins.isAttrs b
      then a // mapAttrs (name: value: if a ? ${name} then recursiveUpdate a.${name} value else value) b
      else b;

    # ---- text ----

    concatStrings = concatStringsSep "";
    concatMapStrings = make: list: concatStrings (map make list);
    concatMapStringsSep = between: make: list: concatStringsSep between (map make list);
    concatStringsSep = builtins.concatStringsSep;
    concatMapAttrs = make: set: foldl' (all: one: all // one) { } (mapAttrsToList make set);
    splitString = between: text: filter builtins.isString (builtins.split (escapeRegex between) text);
    escape = chars: replaceStrings chars (map (char: "\\${char}") chars);
    escapeRegex = escape [ "\\" "^" "$" "." "|" "?" "*" "+" "(" ")" "[" "]" "{" "}" ];
    escapeShellArg = word:
      let text = toString word; in
      if match "[[:alnum:],._+:@%/-]+" text != null then text else "'${replaceStrings [ "'" ] [ "'\\''" ] text}'";
    escapeShellArgs = concatMapStringsSep " " escapeShellArg;
    hasPrefix = start: text: substring 0 (stringLength start) (toString text) == start;
    hasSuffix = end: text: let rest = stringLength text - stringLength end; in rest >= 0 && substring rest (-1) text == end;
    hasInfix = part: text: length (splitString part (toString text)) > 1;
    removePrefix = start: text: if hasPrefix start text then substring (stringLength start) (-1) text else text;
    removeSuffix = end: text: if hasSuffix end text then substring 0 (stringLength text - stringLength end) text else text;
    toLower = replaceStrings letters.upper letters.lower;
    toUpper = replaceStrings letters.lower letters.upper;
    toInt = text: builtins.fromJSON text;
    makeBinPath = concatMapStringsSep ":" (package: "${package}/bin");
    stringToCharacters = text: genList (n: substring n 1 text) (stringLength text);
    versionAtLeast = a: b: builtins.compareVersions a b >= 0;
    versionOlder = a: b: builtins.compareVersions a b < 0;

    # ---- what only describes packages ----

    licenses = { lgpl3Only = { spdxId = "LGPL-3.0-only"; }; gpl3Only = { spdxId = "GPL-3.0-only"; }; };
    platforms = { linux = [ "x86_64-linux" "aarch64-linux" ]; unix = platforms.linux; };
    maintainers = { };
    cleanSourceFilter = _: _: true;
    cleanSourceWith = given: given.src;
    getExe = package: "${package}/bin/${package.meta.mainProgram or package.pname or package.name}";
  };

  letters = {
    upper = lib.stringToCharacters "ABCDEFGHIJKLMNOPQRSTUVWXYZ";
    lower = lib.stringToCharacters "abcdefghijklmnopqrstuvwxyz";
  };
in
lib
