# Users, sshd and sudo with the definitions, priorities and assertions of NixOS's.
{ config, lib, ... }:

let
  inherit (lib) mkDefault mkIf mkOption mkOrder types;
  option = type: default: mkOption { inherit type default; };
  words = option (types.listOf types.str) [ ];
  switch = option types.bool false;

  cfg = config.users;
  sshd = config.services.openssh;

  account = { name, config, ... }: {
    freeformType = types.attrsOf types.anything;
    options = {
      openssh.authorizedKeys.keys = words;
      isNormalUser = switch;
      isSystemUser = switch;
      uid = option (types.nullOr types.int) null;
      group = option types.str "";
      extraGroups = words;
      home = option types.str "/var/empty";
      useDefaultShell = switch;
    };
    config = mkIf config.isNormalUser {
      group = mkDefault "users";
      home = mkDefault "/home/${name}";
      isSystemUser = mkDefault false;
    };
  };
  isSystem = user: user.isSystemUser || (user.uid != null && user.uid < 1000);
  isAdmin = name: user: (name == "root" || user.group == "wheel" || lib.elem "wheel" user.extraGroups)
    && (user.openssh.authorizedKeys.keys != [ ] || user.hashedPassword or null != null || user.password or null != null);

  sudo = default: {
    enable = option types.bool default;
    wheelNeedsPassword = option types.bool true;
    execWheelOnly = switch;
    defaultOptions = words;
    extraConfig = option types.lines "";
    extraRules = option
      (types.listOf (types.submodule {
        options = {
          users = words;
          groups = words;
          commands = option
            (types.listOf (types.either types.str (types.submodule {
              options = { command = mkOption { type = types.str; }; options = words; };
            }))) [ ];
        };
      })) [ ];
  };
  rules = sudo: mkIf sudo.enable (lib.mkMerge [
    (mkOrder 400 [{ users = [ "root" ]; commands = [{ command = "ALL"; options = sudo.defaultOptions; }]; }])
    (mkOrder 600 [{
      groups = [ "wheel" ];
      commands = [{ command = "ALL"; options = lib.optional (!sudo.wheelNeedsPassword) "NOPASSWD" ++ sudo.defaultOptions; }];
    }])
  ]);
in
{
  options = {
    users.mutableUsers = option types.bool true;
    users.users = option (types.attrsOf (types.submodule account)) { };
    users.groups = option (types.attrsOf (types.submodule { options.members = words; })) { };
    security.sudo = sudo true;
    security.sudo-rs = sudo false;
    services.openssh = {
      enable = switch;
      ports = option (types.listOf types.port) [ 22 ];
      openFirewall = option types.bool true;
      hostKeys = option (types.listOf types.attrs) [
        { type = "rsa"; bits = 4096; path = "/etc/ssh/ssh_host_rsa_key"; }
        { type = "ed25519"; path = "/etc/ssh/ssh_host_ed25519_key"; }
      ];
      authorizedKeysInHomedir = option types.bool true;
      authorizedKeysFiles = words;
      settings = mkOption {
        default = { };
        type = types.submodule {
          freeformType = types.attrsOf types.anything;
          options = { PermitRootLogin = option types.str "prohibit-password"; }
            // lib.genAttrs [ "AllowUsers" "DenyUsers" "AllowGroups" "DenyGroups" ] (_: option (types.nullOr (types.listOf types.str)) null);
        };
      };
      extraConfig = option types.lines "";
      knownHosts = option (types.attrsOf types.anything) { };
    };
  };

  config = {
    users.users.root = { uid = 0; group = "root"; home = "/root"; };
    security.sudo.extraRules = rules config.security.sudo;
    security.sudo.extraConfig = "Defaults:root,%wheel env_keep+=TERMINFO_DIRS"; # as config/terminfo.nix does
    security.sudo-rs.extraRules = rules config.security.sudo-rs;
    services.openssh.authorizedKeysFiles = mkIf sshd.enable
      (lib.optional sshd.authorizedKeysInHomedir "%h/.ssh/authorized_keys" ++ [ "/etc/ssh/authorized_keys.d/%u" ]);
    networking.firewall.allowedTCPPorts = mkIf (sshd.enable && sshd.openFirewall) sshd.ports;
    assertions = [
      {
        assertion = cfg.mutableUsers || lib.any (found: found) (lib.mapAttrsToList isAdmin cfg.users);
        message = "Neither the root account nor any wheel user has a password or SSH authorized key.";
      }
      {
        assertion = !(config.security.sudo.enable && config.security.sudo-rs.enable);
        message = "`security.sudo` and `security.sudo-rs` cannot both be enabled";
      }
    ] ++ lib.concatLists (lib.mapAttrsToList
      (name: user: [
        {
          assertion = isSystem user != user.isNormalUser;
          message = "Exactly one of users.users.${name}.isSystemUser and users.users.${name}.isNormalUser must be set.";
        }
        { assertion = user.group != ""; message = "users.users.${name}.group is unset."; }
      ])
      cfg.users);
  };
}
