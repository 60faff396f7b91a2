# What a forge's machines set, with the assertions of NixOS's modules (services/misc/forgejo.nix, databases/postgresql.nix,
# databases/redis.nix, backup/postgresql-backup.nix, mail/postfix.nix, continuous-integration/gitea-actions-runner.nix).
{ config, lib, ... }:

let
  inherit (lib) mkIf mkOption types;
  option = type: default: mkOption { inherit type default; };
  switch = option types.bool false;
  words = option (types.listOf types.str) [ ];
  perhaps = type: option (types.nullOr type) null;
  open = option (types.attrsOf types.anything) { };
  set = options: mkOption { type = types.attrsOf (types.submodule { inherit options; }); default = { }; };

  inherit (config.services) forgejo postgresql;
  runners = config.services.gitea-actions-runner.instances;
  accounts = lib.optional config.services.nginx.enable "nginx" ++ lib.optional postgresql.enable "postgres"
    ++ map (name: "redis-${name}") (builtins.attrNames config.services.redis.servers);
  each = what: builtins.listToAttrs (map (name: { inherit name; value = what name; }) accounts);
  owners = builtins.filter (user: user.ensureDBOwnership) postgresql.ensureUsers;
in
{
  options.services = {
    forgejo = {
      enable = switch;
      database = {
        type = option (types.enum [ "sqlite3" "mysql" "postgres" ]) "sqlite3";
        host = option types.str "127.0.0.1";
        user = option types.str "forgejo";
        createDatabase = option types.bool true;
        passwordFile = perhaps types.path;
      };
      settings = open;
      secrets = option (types.attrsOf (types.attrsOf types.path)) { };
      dump = { enable = switch; backupDir = option types.str "/var/lib/forgejo/dump"; };
    };
    gitea-actions-runner.instances = set {
      enable = switch;
      name = mkOption { type = types.str; };
      url = mkOption { type = types.str; };
      token = perhaps types.str;
      tokenFile = perhaps (types.either types.str types.path);
      labels = mkOption { type = types.listOf types.str; };
    };
    postgresql = {
      package = option types.raw null;
      dataDir = option types.path "/var/lib/postgresql";
      enableTCPIP = switch;
      ensureDatabases = words;
      ensureUsers = option
        (types.listOf (types.submodule { options = { name = mkOption { type = types.str; }; ensureDBOwnership = switch; }; })) [ ];
      authentication = option types.lines "";
    };
    postgresqlBackup = { enable = switch; location = option types.path "/var/backup/postgresql"; };
    redis.servers = set {
      enable = switch;
      bind = option (types.nullOr types.str) "127.0.0.1";
      port = option types.port 0;
      requirePassFile = perhaps types.path;
    };
    postfix = { enable = switch; hostname = option types.str ""; networks = option (types.nullOr (types.listOf types.str)) null; };
  };

  config = lib.mkMerge [
    {
      users.users = each (name: { isSystemUser = true; group = name; });
      users.groups = each (_: { });
    }
    (mkIf postgresql.enable {
      assertions = map
        (user: {
          assertion = builtins.elem user.name postgresql.ensureDatabases;
          message = "For each database user defined with `services.postgresql.ensureUsers` and `ensureDBOwnership = true;`, a database with the same name must be defined in `services.postgresql.ensureDatabases`.";
        })
        owners;
    })
    {
      assertions = [{
        assertion = forgejo.database.createDatabase && forgejo.database.type == "postgres" -> postgresql.enable || !forgejo.enable;
        message = "services.forgejo.database.createDatabase wants services.postgresql on the same machine";
      }] ++ lib.mapAttrsToList
        (_: one: {
          assertion = (one.token == null) != (one.tokenFile == null);
          message = "Instances of gitea-actions-runner can have `token` or `tokenFile`, not both.";
        })
        runners;
    }
  ];
}
