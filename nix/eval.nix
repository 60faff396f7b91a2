# The command line's way in: turns a network file or a flake into plain data (`info`) and systems (`machines`).
#
#   nix-instantiate --eval --strict --json --read-write-mode eval.nix --arg networkExpr /path/to/network.nix -A info
#   nix-build eval.nix --arg networkExpr /path/to/network.nix -A machines.web.toplevel
#
# `info` is { network; resources; machines.<name> = { deployment.proxmox; deployment.targetEnv; toplevel = { drvPath; outputPath; } or null; }; }.
#
# A machine is plain when it is an attribute set that has a `toplevel`, or when no nixpkgs can be found: then it gives
# `deployment.proxmox` and its `toplevel` as they are. Every other machine is a NixOS module, as in NixOps.
{ networkExpr ? null # the network file, or the folder of a default.nix: a path, or a string
, flakeUri ? null # or a flake …
, flakeName ? null # … and which of its networks (or machines)
, deploymentName ? "default"
, uuid ? deploymentName
, resourceOptions ? [ "volumes" "macPools" "macSchemes" "tenants" ] # what of `resources` is described to us
, clientKeys ? [ ] # public SSH keys that may log in
, taken ? "{}" # what NICs have taken from lists of MACs, as JSON: { machine = { slot = { mac; host; ipv4; ipv6; }; }; }
, serials ? "{}" # what the serials of recorded machines' disks follow from, as JSON: { machine = "…"; }
, args ? { } # for a network that is a function
, checkConfigurationOptions ? true
, announce ? false # whether to trace `info`, without the systems, before the first of them is evaluated
, together ? null # `info` has the systems of a network of so many machines, and leaves out those of a larger one
, describedTogether ? null # … and the machines' descriptions only up to so many NixOS machines
, only ? "[]" # the machines that `descriptions` and `systems` tell, as JSON
, searching ? true # whether <nixpkgs> counts, which is another one elsewhere and tomorrow
, nixpkgs ? null # instead of the network's own, the flake's input, or <nixpkgs>
, system ? builtins.currentSystem or "x86_64-linux"
}:

let
  inherit (builtins) addErrorContext attrNames concatMap elem elemAt filter foldl' functionArgs genList getFlake hasAttr head
    intersectAttrs isAttrs isBool isFloat isFunction isInt isList isPath isString length listToAttrs map mapAttrs removeAttrs
    toString tryEval;

  # ---- the network, from a file or a flake ----

  reserved = [ "network" "defaults" "resources" "require" "nixpkgs" "_file" ];

  given = { inherit clientKeys deploymentName uuid; } // args;

  call = file: value:
    if !isFunction value then value
    else
      let
        wanted = functionArgs value;
        missing = filter (name: !wanted.${name} && !(hasAttr name given)) (attrNames wanted);
      in
      if missing != [ ] then
        throw "the network ${toString file} is a function that wants the argument '${head missing}': pass it (--arg or --argstr)"
      else value (if wanted == { } then given else intersectAttrs wanted given);

  readFile = file:
    let network = call file (import file);
    in
    if isPackage network then throw "${toString file} is a package, and no network of machines"
    else if isAttrs network then { _file = toString file; } // network
    else throw "the network ${toString file} is not an attribute set of machines";

  isPackage = value: isAttrs value && value.type or null == "derivation";

  # A network and all that it requires, each file once.
  closure = first: map (item: item.network) (builtins.genericClosure {
    startSet = [ (item first) ];
    operator = found: map (file: item (readFile file)) (found.network.require or [ ]);
  });
  item = network: { key = network._file; inherit network; };

  flake = getFlake flakeUri;

  flakeNetworks = flake.nixopsConfigurations or { };
  flakeSystems = flake.nixosConfigurations or { };

  # `web`, or the whole path: `nixosConfigurations.web`.
  within = set: prefix:
    let
      length = builtins.stringLength prefix;
      short = if builtins.substring 0 length flakeName == prefix then builtins.substring length (-1) flakeName else flakeName;
    in
    if hasAttr flakeName set then flakeName else if hasAttr short set then short else null;
  networkName = within flakeNetworks "nixopsConfigurations.";
  systemName = within flakeSystems "nixosConfigurations.";
  has = kind: set: "${kind} has ${if set == { } then "nothing" else builtins.concatStringsSep ", " (attrNames set)}";
  whatIsThere = "${has "nixopsConfigurations" flakeNetworks}; ${has "nixosConfigurations" flakeSystems}";

  howToImport = "add nixops-proxmox.nixosModules.default to its modules";
  ours = filter isOurs (attrNames flakeSystems);

  fromFlake =
    if flakeName != null && networkName != null then network' networkName
    else if flakeName != null && systemName != null then
      if isOurs systemName then systems' [ systemName ]
      else throw "nixosConfigurations.${systemName} does not import our module: ${howToImport}"
    else if flakeName != null then throw "the flake has no '${flakeName}': ${whatIsThere}"
    else if hasAttr "default" flakeNetworks then network' "default"
    else if ours != [ ] then systems' ours
    else if flakeNetworks != { } then throw "which network? Say it as FLAKE#NAME: ${whatIsThere}"
    else if flakeSystems != { } then throw "no machine in nixosConfigurations imports our module: ${howToImport}"
    else throw "the flake has neither nixopsConfigurations.default nor nixosConfigurations";
  network' = name: {
    networks = closure ({ _file = "${flakeUri}#nixopsConfigurations.${name}"; }
      // call "${flakeUri}#${name}" flakeNetworks.${name});
    systems = { };
  };
  systems' = names: {
    networks = [ ];
    systems = listToAttrs (map (name: { inherit name; value = flakeSystems.${name}; }) names);
  };
  isOurs = name: inMachine name (flakeSystems.${name}.options.deployment.proxmox or null != null);

  source =
    if flakeUri != null then fromFlake
    else if networkExpr != null then { networks = closure (readFile networkExpr); systems = { }; }
    else throw "eval.nix wants networkExpr (a file) or flakeUri";

  inherit (source) networks;

  network = foldl' (all: one: all // (one.network or { })) { } networks;

  names = attrNames (foldl' (all: one: all // removeAttrs one reserved) { } networks);

  # What the networks say of one machine, each with the file it comes from.
  sayings = name: concatMap (one: if hasAttr name one then [ (saying one._file name one.${name}) ] else [ ]) networks;
  saying = file: name: value:
    if isPackage value || !(isAttrs value || isFunction value || isPath value || isString value)
    then throw "'${name}' in ${file} is ${if isPackage value then "a package" else "no module"}, and no machine: is this a network?"
    else { inherit file value; };

  defaults = concatMap (one: if one ? defaults then [{ file = one._file; value = one.defaults; }] else [ ]) networks;

  # ---- nixpkgs, if there is one ----

  searched = tryEval <nixpkgs>;
  nixpkgsPath =
    if nixpkgs != null then nixpkgs
    else if network ? nixpkgs then network.nixpkgs.path or network.nixpkgs.outPath or network.nixpkgs
    else
      let own = filter (one: one ? nixpkgs) networks; in
      if own != [ ] then (head own).nixpkgs.path or (head own).nixpkgs.outPath or (head own).nixpkgs
      else if !searching then throw "the network names no nixpkgs, and <nixpkgs> is not locked"
      else if searched.success then searched.value
      else null;

  # ---- plain machines ----

  isPlain = name:
    let said = map (one: one.value) (sayings name);
    in filter (value: isAttrs value && value ? toplevel) said != [ ] || nixpkgsPath == null;

  merge = first: second:
    if isAttrs first && isAttrs second && !(first ? drvPath) && !(second ? drvPath)
    then first // mapAttrs (name: value: if hasAttr name first then merge first.${name} value else value) second
    else second;

  plain = name: foldl'
    (all: one:
      if isAttrs one.value then merge all one.value
      else throw "machine '${name}' in ${one.file} is a NixOS module, and there is no nixpkgs: set network.nixpkgs or NIX_PATH")
    { }
    (defaults ++ sayings name);

  plainMachine = name:
    let
      machine = plain name;
      ofNixos = filter (option: !(elem option [ "deployment" "toplevel" ])) (attrNames machine);
    in
    if !(machine ? toplevel) && ofNixos != [ ] && nixpkgsPath == null
    then throw "machine '${name}' sets ${head ofNixos}, so it is a NixOS module, and there is no nixpkgs: set network.nixpkgs or NIX_PATH"
    else {
      deployment = machine.deployment or { };
      toplevel = systemOf name (machine.toplevel or null);
    };

  # A plain system may be a function of what its machine has taken from lists of MACs, by slot: { mac; host; ipv4; ipv6; }.
  systemOf = name: value:
    if !isFunction value then value
    else
      let
        known = { inherit name deploymentName; taken = takenBy name; };
        wanted = functionArgs value;
        missing = filter (arg: !wanted.${arg} && !(hasAttr arg known)) (attrNames wanted);
      in
      if missing != [ ] then
        throw "${name}.toplevel is a function that wants '${head missing}': it gets ${builtins.concatStringsSep ", " (attrNames known)}"
      else value (if wanted == { } then known else intersectAttrs wanted known);
  takenBy = name: (builtins.fromJSON taken).${name} or { };

  # ---- machines that are NixOS modules ----

  moduleNames = filter (name: !(isPlain name)) names;

  nodes = listToAttrs (map (name: { inherit name; value = nixos name; }) moduleNames);

  resources = foldl' (all: one: merge all (one.resources or { })) { } networks
    // { machines = mapAttrs (_: node: node.config) nodes; };

  nixos = name: import (nixpkgsPath + "/nixos/lib/eval-config.nix") {
    inherit system; # a default below nixpkgs.system and nixpkgs.hostPlatform
    specialArgs = { inherit name nodes resources uuid deploymentName; };
    modules = map (one: { _file = one.file; imports = [ one.value ]; }) (defaults ++ sayings name) ++ [
      ./proxmox.nix
      ./gateway.nix
      ./keys.nix
      ./nixops.nix
      ({ config, lib, ... }: {
        _file = toString ./eval.nix;
        networking.hostName = lib.mkOverride 900 name;
        # A machine of another backend sets options that only that backend's modules declare.
        _module.check = checkConfigurationOptions && config.deployment.targetEnv == "proxmox";
      })
      letIn
      attached
      (addressed name)
      (serialled name)
    ];
  };

  attached = { config, ... }: {
    _file = toString ./eval.nix;
    deployment.proxmox.guest.volumes =
      import ./volume-paths.nix { identity = deploymentName; names = config.deployment.proxmox.volumes; container = config.deployment.proxmox.kind == "container"; };
  };

  # The addresses and the host name that come with MACs. Weaker than the machine's own words, and stronger than our name.
  addressed = name: { lib, ... }:
    let
      mine = takenBy name;
      first = mine.net0 or (if mine == { } then { } else head (builtins.attrValues mine));
      host = builtins.match "([^.]+)[.]?(.*)" (first.host or "");
    in
    {
      _file = toString ./eval.nix;
      deployment.proxmox.guest.taken = mapAttrs (_: one: removeAttrs one [ "host" ]) mine;
      networking = lib.optionalAttrs (host != null)
        ({ hostName = lib.mkOverride 890 (elemAt host 0); }
          // lib.optionalAttrs (elemAt host 1 != "") { domain = lib.mkOverride 890 (elemAt host 1); });
    };

  # A machine that is not there yet will have its disks' serials from the names. A flake's own systems say it themselves:
  # others build them, too, and must get the same.
  serialled = name: { lib, ... }: {
    _file = toString ./eval.nix;
    deployment.proxmox.guest.serialsFrom = lib.mkDefault ((builtins.fromJSON serials).${name} or "${deploymentName}/${name}");
  };

  # Our key, in a module of its own: a flake's finished systems get it as well.
  letIn = { config, ... }: {
    _file = toString ./eval.nix;
    users.users.${config.deployment.proxmox.ssh.user}.openssh.authorizedKeys.keys = clientKeys;
  };
  flakeSystem = name: system: systemMachine (system.extendModules { modules = [ letIn (addressed name) ]; });

  systemMachine = node: {
    deployment = removeAttrs node.config.deployment [ "files" "keys" ] // { proxmox = import ./export.nix node.config.deployment.proxmox; }
      // (let keys = node.config.deployment.keys or { }; in
      if keys == { } then { } else { keys = mapAttrs (_: key: removeAttrs key [ "path" ]) keys; })
      // (let files = node.config.deployment.files or { }; in if files == { } then { } else { inherit files; });
    toplevel = node.config.system.build.toplevel;
  };

  # ---- what is told ----

  all = listToAttrs (map
    (name: {
      inherit name;
      value = if isPlain name then plainMachine name else systemMachine nodes.${name};
    })
    names) // mapAttrs flakeSystem source.systems;

  # Only what JSON can say. A path stays a string: it is never copied into the store, which everybody can read.
  simple = where: value: addErrorContext "while evaluating the option '${where}':" (simple' where value);
  simple' = where: value:
    if value == null || isBool value || isInt value || isFloat value || isString value then value
    else if isPath value then toString value
    else if isList value then
      genList (index: simple "${where}[${toString index}]" (elemAt value index)) (length value)
    else if isAttrs value then
      if value ? outPath || value ? __toString then toString value
      else mapAttrs (name: simple "${where}.${name}") value
    else throw "${where} is a function, and only data can be written there";

  # The context is only in Nix's trace for what is evaluated within it, hence `whole`.
  whole = value: builtins.deepSeq value value;

  inMachine = name: addErrorContext "while evaluating the machine '${name}':";

  # Only whose it is, of another backend's machine: what more it says may mean something to that backend alone.
  isForeign = machine: (machine.deployment.targetEnv or "proxmox") != "proxmox";

  deployments = mapAttrs
    (name: machine: inMachine name (whole (
      if isForeign machine then { proxmox = { }; inherit (machine.deployment) targetEnv; }
      else mapAttrs (key: simple "${name}.deployment.${key}")
        ({ proxmox = { }; } // intersectAttrs { proxmox = null; targetEnv = null; keys = null; files = null; } machine.deployment))))
    all;

  toplevels = mapAttrs
    (name: machine: inMachine name (whole (
      if isForeign machine || machine.toplevel == null then null
      # Not `outPath`: Nix prints an attribute set that has one as that alone.
      else if isAttrs machine.toplevel && machine.toplevel ? drvPath && machine.toplevel ? outPath
      then { drvPath = "${machine.toplevel.drvPath}"; outputPath = "${machine.toplevel.outPath}"; }
      else throw "${name}.toplevel is not a derivation")))
    all;

  # What builds an image or a template that machines are made of, if it comes from a derivation. A string may name a file in one.
  images = mapAttrs
    (name: machine: inMachine name (whole (
      if isForeign machine then null
      else let inside = machine.deployment.proxmox or { }; image = inside.install.image or null; in
      imageOf (if image == null then inside.container.template or null else image))))
    all;
  templateImages = listToAttrs (filter (one: one.value != null) (map
    (name: {
      name = "resources.templates.${name}";
      value = addErrorContext "while evaluating resources.templates.${name}.image:"
        (whole (imageOf (resources.templates.${name}.image or null)));
    })
    (if elem "templates" resourceOptions then attrNames (resources.templates or { }) else [ ])));
  imageOf = value:
    let
      context = if isString value then builtins.getContext value else { };
      drvs = filter (drv: context.${drv} ? outputs) (attrNames context);
      within = builtins.match "(${builtins.storeDir}/[^/]+).*" (builtins.unsafeDiscardStringContext (toString value));
    in
    if isAttrs value && value ? drvPath && value ? outPath
    then { drvPath = "${value.drvPath}"; outputPath = "${value.outPath}"; }
    else if drvs != [ ] && within != null then { drvPath = head drvs; outputPath = head within; }
    else null;

  about = mapAttrs (name: simple "network.${name}")
    (intersectAttrs { description = null; enableRollback = null; storage = null; lock = null; } network);

  # Beside machines: what kinds of our own are described. Of other backends' resources only the names are told.
  described = mapAttrs (name: value: if elem name resourceOptions then simple "resources.${name}" value else null) resources;

  # Where options below deployment.proxmox are said, by their path: "FILE:LINE" where an attribute set in the network has
  # them, the file alone where a module says them in another way. Asked for one machine at a time, and by itself.
  places = mapAttrs
    (name: _: placesOfModule "" ((nodes.${name} or source.systems.${name} or { }).options.deployment.proxmox or { })
      // foldl' (found: one: found // placesIn "" (bodyOf one.value).deployment.proxmox or { }) { } (defaults ++ sayings name))
    all;
  # A default stands in our own module, which users do not change.
  isTheirs = file: builtins.substring 0 1 file == "/"
    && builtins.substring 0 (builtins.stringLength (toString ./.)) file != toString ./.;
  bodyOf = value: if isAttrs value then value.config or value else { };
  placesIn = prefix: set:
    if !isAttrs set || set ? drvPath then { }
    else foldl'
      (found: key:
        let
          place = builtins.unsafeGetAttrPos key set;
          path = if prefix == "" then key else "${prefix}.${key}";
        in
        found // (if place == null then { } else { ${path} = "${place.file}:${toString place.line}"; })
          // placesIn path set.${key})
      { }
      (attrNames set);
  placesOfModule = prefix: options: foldl'
    (found: key:
      let
        option = options.${key};
        path = if prefix == "" then key else "${prefix}.${key}";
        files = filter isTheirs (map toString (option.files or [ ]));
      in
      if key == "_module" || !isAttrs option then found
      else if (option._type or null) != "option" then found // placesOfModule path option
      else if files == [ ] then found
      else found // { ${path} = elemAt files (length files - 1); })
    { }
    (attrNames options);

  # What all machines are made of comes first: what is wrong in one is told before the systems, which take minutes. The
  # listener can refuse what no type can say, and end us.
  first = builtins.deepSeq deployments
    (if !announce then null
    else builtins.trace "nixops-proxmox-description ${builtins.toJSON {
      network = about;
      resources = described;
      machines = mapAttrs (_: deployment: { inherit deployment; }) deployments;
    }}" null);


  # One process holds all that it has evaluated, so a large network is told in parts.
  heavy = length moduleNames + length (attrNames source.systems);
  isWhole = together == null || length (attrNames all) <= together;
  isDescribed = isWhole || describedTogether == null || heavy <= describedTogether;
  asked = listToAttrs (map (name: { inherit name; value = null; }) (builtins.fromJSON only));
  systemOfMachine = name: { toplevel = toplevels.${name}; } // (if images.${name} == null then { } else { image = images.${name}; });

in
{
  info = {
    network = about;
    resources = described;
    machines =
      if isWhole then builtins.seq first (mapAttrs (name: deployment: { inherit deployment; } // systemOfMachine name) deployments)
      else if isDescribed then mapAttrs (_: deployment: { inherit deployment; }) deployments
      else mapAttrs (_: _: { }) all;
  } // (if templateImages == { } then { } else { inherit templateImages; });

  descriptions = mapAttrs (_: deployment: { inherit deployment; }) (intersectAttrs asked deployments);
  systems = mapAttrs (name: _: systemOfMachine name) (intersectAttrs asked all);

  machines = mapAttrs (name: machine: { inherit (machine) toplevel; }) all;
  inherit nodes places resources;
}
