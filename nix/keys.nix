# `deployment.keys`, in the words of NixOps, for machines that our own command line deploys: files in memory that come through
# SSH, and a unit for each that waits for it. What is in them is never in the store.
{ config, lib, pkgs, ... }:

let
  inherit (lib) mkOption types;
  cfg = config.deployment.keys;

  optional' = type: description: mkOption { type = types.nullOr type; default = null; inherit description; };

  key = { name, config, ... }: {
    options = {
      text = optional' types.str "The secret itself. Everybody who reads the description reads it, so `keyFile` or `keyCommand` is better.";
      keyFile = optional' (types.either types.path types.str) "The file that holds it, on the computer that deploys. In a flake, write it as a string: Nix copies a path into the store.";
      keyCommand = optional' (types.listOf types.str) "The command that prints it, on the computer that deploys.";
      destDir = mkOption { type = types.str; default = "/run/keys"; description = "The folder where it will be. NixOS has `/run/keys` in memory."; };
      path = mkOption { type = types.str; default = "${config.destDir}/${name}"; readOnly = true; description = "Where it will be."; };
      user = mkOption { type = types.str; default = "root"; description = "Its user."; };
      group = mkOption { type = types.str; default = "root"; description = "Its group."; };
      permissions = mkOption { type = types.str; default = "0600"; description = "Its mode."; };
    };
  };

  file.options = {
    text = optional' types.str "What is in it. Everybody who reads the description reads it, so `file` or `command` is better for a secret.";
    file = optional' (types.either types.path types.str) "The file that holds it, on the computer that deploys. In a flake, write it as a string: Nix copies a path into the store.";
    command = optional' (types.listOf types.str) "The command that prints it, on the computer that deploys.";
    uid = mkOption { type = types.ints.unsigned; default = 0; description = "The number of its user."; };
    gid = mkOption { type = types.ints.unsigned; default = 0; description = "The number of its group."; };
    permissions = mkOption { type = types.str; default = "0600"; description = "Its mode."; };
  };

  quoted = lib.escapeShellArg;

  # It is up while the key is there, and starts again when the key is another one. So do units that require it.
  unit = name: key: lib.nameValuePair "${name}-key" {
    description = "The key ${name}";
    path = [ pkgs.inotify-tools pkgs.coreutils ];
    unitConfig.StartLimitIntervalSec = 0;
    serviceConfig = { TimeoutStartSec = "infinity"; Restart = "always"; RestartSec = "100ms"; };
    preStart = ''
      until [ -e ${quoted key.path} ]; do
        mkdir -p ${quoted key.destDir}
        inotifywait -qq -t 5 -e create,moved_to ${quoted key.destDir} || true
      done
    '';
    script = ''
      here=$(stat -c %i ${quoted key.path})
      while [ "$(stat -c %i ${quoted key.path} 2>/dev/null)" = "$here" ]; do
        inotifywait -qq -t 60 -e delete_self,move_self ${quoted key.path} || true
      done
    '';
  };

  # A key came before the system that knows its user.
  own = _: key: ''
    if [ -e ${quoted key.path} ]; then
      chown ${quoted "${key.user}:${key.group}"} ${quoted key.path}
      chmod ${quoted key.permissions} ${quoted key.path}
    fi
  '';
in
{
  options.deployment.keys = mkOption {
    type = types.attrsOf (types.submodule key);
    default = { };
    description = "Secrets that a deploy writes into the machine's memory, before it switches to a new system.";
  };

  options.deployment.files = mkOption {
    type = types.attrsOf (types.submodule file);
    default = { };
    description = "Files that the installer puts onto the disk, by their paths, before the system boots for the first time.";
  };

  config = lib.mkIf (cfg != { }) {
    system.activationScripts.nixops-proxmox-keys = {
      deps = [ "users" "groups" ];
      text = ''
        mkdir -p -m 0750 /run/keys
        chown root:keys /run/keys
        ${lib.concatStrings (lib.mapAttrsToList own cfg)}
      '';
    };
    systemd.services = lib.mapAttrs' unit cfg;
  };
}
