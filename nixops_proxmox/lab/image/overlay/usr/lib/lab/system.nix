# A small NixOS-shaped system out of configuration.nix, without nixpkgs: the modules are read, and of what they say
# only host name, root's keys, environment.etc and activation scripts are carried out.
{ configuration }:
let
  unwrap = value:
    if builtins.isAttrs value && value ? _labContent then
      (if value.condition then unwrap value._labContent else null)
    else value;
  lib = rec {
    mkDefault = value: value;
    mkForce = value: value;
    mkOverride = _: value: value;
    mkBefore = value: value;
    mkAfter = value: value;
    mkIf = condition: _labContent: { inherit condition _labContent; };
    mkMerge = contents: { _labMerge = contents; };
    optional = condition: value: if condition then [ value ] else [ ];
    optionals = condition: values: if condition then values else [ ];
    optionalString = condition: text: if condition then text else "";
    optionalAttrs = condition: set: if condition then set else { };
    concatStringsSep = builtins.concatStringsSep;
    mapAttrs = builtins.mapAttrs;
    attrValues = builtins.attrValues;
    attrNames = builtins.attrNames;
  };
  arguments = {
    inherit lib;
    config.system.nixos.release = "24.11";
    options = { };
    pkgs = { inherit lib; };
    modulesPath = ./modules;
  };
  call = value: if builtins.isFunction value then value arguments else value;
  # All modules, imports first; what does not exist here (NixOS's own profiles) is left out.
  load = module:
    let
      isFile = builtins.isPath module || builtins.isString module;
      here = if isFile then module else null;
      value = call (if isFile then import module else module);
      imports = builtins.filter (each: !(builtins.isPath each || builtins.isString each) || builtins.pathExists each) (value.imports or [ ]);
    in
    if isFile && !builtins.pathExists module then [ ] else builtins.concatMap load imports ++ flatten (value.config or value);
  flatten = value:
    if value ? _labMerge then builtins.concatMap flatten value._labMerge
    else if value ? _labContent then (if value.condition then flatten value._labContent else [ ])
    else [ value ];
  modules = load configuration;
  # Every value that the modules give to an option.
  values = path: builtins.concatMap (module: at path module) modules;
  at = path: value:
    let plain = unwrap value; in
    if plain == null then [ ]
    else if builtins.isAttrs plain && plain ? _labMerge then builtins.concatMap (at path) plain._labMerge
    else if path == [ ] then [ plain ]
    else if builtins.isAttrs plain && builtins.hasAttr (builtins.head path) plain then at (builtins.tail path) plain.${builtins.head path}
    else [ ];
  last = default: found: if found == [ ] then default else builtins.elemAt found (builtins.length found - 1);

  hostName = last "nixos" (values [ "networking" "hostName" ]);
  keys = builtins.concatLists (values [ "users" "users" "root" "openssh" "authorizedKeys" "keys" ]);
  etcSets = values [ "environment" "etc" ];
  etc = builtins.foldl' (all: set: all // set) { } etcSets;
  etcNames = builtins.filter (name: etc.${name} ? text) (builtins.attrNames etc);
  scripts = builtins.foldl' (all: set: all // set) { } (values [ "system" "activationScripts" ]);
  script = name: let value = scripts.${name}; in if builtins.isAttrs value then value.text or "" else value;

  stateVersion = last "24.11" (values [ "system" "stateVersion" ]);
  activate = ''
    #!/bin/sh
    # Made by nixos-install of /etc/nixos/configuration.nix.
    system=$(dirname "$(readlink -f "$0")")
    ${lib.optionalString (hostName != "") "hostname ${hostName} && echo ${hostName} > /etc/hostname"}
    mkdir -p /etc/ssh/authorized_keys.d
    cp "$system/authorized-keys" /etc/ssh/authorized_keys.d/root.new
    chmod 0444 /etc/ssh/authorized_keys.d/root.new
    mv /etc/ssh/authorized_keys.d/root.new /etc/ssh/authorized_keys.d/root
    (cd "$system/etc" && find . -type f) | while read -r file; do
      mkdir -p "/etc/$(dirname "$file")"
      ln -sfn "$system/etc/$file" "/etc/$file"
    done
    ${builtins.concatStringsSep "\n" (map script (builtins.attrNames scripts))}
    :
  '';
  switch = ''
    #!/bin/sh
    system=$(dirname "$(dirname "$(readlink -f "$0")")")
    case $1 in
      switch | test)
        SYSTEM=$system "$system/activate" || exit $?
        ln -sfn "$system" /run/current-system
        lab-services switch "$system"
        [ "$1" = test ] || lab-boot-menu "$system"
        ;;
      boot) lab-boot-menu "$system" ;;
      dry-activate) lab-services dry-switch "$system" ;;
      *) echo "usage: $0 switch|boot|test|dry-activate" >&2; exit 1 ;;
    esac
  '';
in
derivation {
  name = "nixos-system-${if hostName == "" then "unnamed" else hostName}-${stateVersion}.lab";
  system = "x86_64-linux";
  builder = "/bin/sh";
  PATH = "/usr/bin:/bin";
  inherit activate switch;
  authorizedKeys = builtins.concatStringsSep "\n" keys + "\n";
  version = "${stateVersion}.lab";
  passAsFile = [ "activate" "switch" "authorizedKeys" ];
  etcNames = builtins.concatStringsSep "\n" etcNames;
  etcFiles = map (name: builtins.toFile "etc" etc.${name}.text) etcNames;
  args = [
    "-c"
    ''
      set -e
      mkdir -p "$out/bin" "$out/etc"
      cp "$activatePath" "$out/activate"
      cp "$switchPath" "$out/bin/switch-to-configuration"
      cp "$authorizedKeysPath" "$out/authorized-keys"
      chmod 0555 "$out/activate" "$out/bin/switch-to-configuration"
      printf '%s' "$version" > "$out/nixos-version"
      printf x86_64-linux > "$out/system"
      set -- $etcFiles
      printf '%s\n' "$etcNames" | while read -r name; do
        if [ -n "$name" ]; then
          mkdir -p "$out/etc/$(dirname "$name")"
          cp "$1" "$out/etc/$name"
          shift
        fi
      done
      :
    ''
  ];
}
