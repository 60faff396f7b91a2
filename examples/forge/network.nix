# A forge on six machines, as sr.ht is built: a proxy, the forge, a runner for its tests, a mail server for its messages, a
# database and a cache. Every machine has one task, so each can be made again without the others.
#
#     pass generate forge/db; …          # the secrets that `secret` names below
#     nixops-proxmox deploy -f examples/forge/network.nix
#     nixops-proxmox reinstall -f examples/forge/network.nix web
#     nixops-proxmox destroy -f examples/forge/network.nix db && nixops-proxmox deploy -f examples/forge/network.nix
#
# Nobody loses data by the last two: they are on volumes, which outlive machines. Addresses and names are placeholders.
let
  inherit (builtins) attrNames listToAttrs map;

  domain = "forge.example.org";
  addresses = {
    web = "192.0.2.10"; # the only one that the world may ask
    git = "10.20.0.11";
    ci = "10.20.0.12";
    mail = "10.20.0.13";
    db = "10.20.0.14";
    cache = "10.20.0.15";
  };

  # A deploy runs `pass` here, and writes what it prints into the machine's memory. Nothing of it is in the store.
  secret = name: more: { keyCommand = [ "pass" "show" "forge/${name}" ]; } // more;

  ssh = { macro = "SSH"; from = [ "set:admins" ]; };

  # Only what these rules name comes in, by Proxmox VE's firewall, whatever the machine itself lets in.
  only = rules: { deployment.proxmox.firewall.rules = [ ssh ] ++ rules; };

  inside = name: {
    bridge = "vmbr1";
    ipv4 = { address = "${addresses.${name}}/24"; gateway = "10.20.0.1"; };
    dns = [ "10.20.0.1" ];
    ipv6 = "none";
  };

  # A disk that outlives its machine, mounted there. NixOS formats it if it is blank.
  onVolume = volume: folder: { config, ... }: {
    deployment.proxmox.volumes = [ volume ];
    fileSystems.${folder} = {
      device = config.deployment.proxmox.guest.volumes.${volume};
      fsType = "ext4";
      autoFormat = true;
    };
  };

  # The units of a service wait for its secrets, and start again when these change.
  needs = unit: keys:
    let units = map (key: "${key}-key.service") keys; in
    { systemd.services.${unit} = { requires = units; after = units; }; };
in
{
  network.description = "a forge on six machines";

  defaults = { lib, ... }: {
    deployment.proxmox = {
      install.iso = lib.mkDefault "local:iso/nixops-proxmox-installer.iso"; # nix build .#installer-iso, then upload it
      disks = lib.mkDefault [ { storage = "local-lvm"; size = "16G"; } ];
      memory = lib.mkDefault 2048;
      tags = [ "forge" ];
    };
    networking = {
      inherit domain;
      # Names that do not depend on a name server.
      hosts = listToAttrs (map (name: { name = addresses.${name}; value = [ name "${name}.${domain}" ]; }) (attrNames addresses));
    };
    system.stateVersion = "24.11";
  };

  resources = {
    volumes.repositories = { storage = "local-lvm"; size = "200G"; };
    volumes.database = { storage = "local-lvm"; size = "50G"; };

    ipSets.admins.addresses = [ "198.51.100.0/24" ];

    # Volumes are not in them: what must be kept of these is in dumps on the machines' own disks (below).
    backupJobs.forge = {
      schedule = "03:00";
      storage = "backups";
      machines = [ "git" "db" ];
      keep = { daily = 7; weekly = 4; };
    };
  };

  web = { config, ... }: {
    imports = [
      (needs "nginx" [ "certificate" "certificate-key" ])
      (only [ { macro = "HTTP"; } { macro = "HTTPS"; } ])
    ];
    deployment.proxmox = {
      memory = 512;
      network = [
        { bridge = "vmbr0"; ipv4 = { address = "${addresses.web}/24"; gateway = "192.0.2.1"; }; ipv6 = "none"; dns = [ "192.0.2.1" ]; }
        { bridge = "vmbr1"; ipv4 = "10.20.0.10/24"; ipv6 = "none"; }
      ];
      onboot = true;
    };
    deployment.keys.certificate = secret "certificate" { user = "nginx"; };
    deployment.keys.certificate-key = secret "certificate-key" { user = "nginx"; };
    users.users.nginx.extraGroups = [ "keys" ]; # who may look into /run/keys
    services.nginx = {
      enable = true;
      recommendedProxySettings = true;
      recommendedTlsSettings = true;
      virtualHosts.${domain} = {
        forceSSL = true;
        sslCertificate = config.deployment.keys.certificate.path;
        sslCertificateKey = config.deployment.keys.certificate-key.path;
        locations."/" = {
          proxyPass = "http://git:3000";
          extraConfig = "client_max_body_size 0;"; # a push may be large
        };
      };
    };
    networking.firewall.allowedTCPPorts = [ 80 443 ];
  };

  git = { config, ... }: {
    imports = [
      (onVolume "repositories" "/var/lib/forgejo")
      (needs "forgejo" [ "db" "cache-url" ])
      (only [ { proto = "tcp"; port = 3000; from = [ "machine:web" "machine:ci" ]; } ])
    ];
    deployment.proxmox = {
      network = [ (inside "git") ];
      cpu.cores = 2;
      onboot = true;
    };
    deployment.keys.db = secret "db" { };
    deployment.keys.cache-url = secret "cache-url" { }; # redis://:PASSWORD@cache:6379/0
    services.forgejo = {
      enable = true;
      database = {
        type = "postgres";
        host = "db";
        createDatabase = false; # it is on another machine
        passwordFile = config.deployment.keys.db.path;
      };
      settings = {
        server = { DOMAIN = domain; ROOT_URL = "https://${domain}/"; HTTP_ADDR = "0.0.0.0"; HTTP_PORT = 3000; };
        cache.ADAPTER = "redis";
        session.PROVIDER = "redis";
        queue.TYPE = "redis";
        mailer = { ENABLED = true; PROTOCOL = "smtp"; SMTP_ADDR = "mail"; SMTP_PORT = 25; FROM = "forge@${domain}"; };
        actions.ENABLED = true;
      };
      secrets = {
        cache.HOST = config.deployment.keys.cache-url.path;
        session.PROVIDER_CONFIG = config.deployment.keys.cache-url.path;
        queue.CONN_STR = config.deployment.keys.cache-url.path;
      };
      # On the machine's own disk, where the backup job finds it.
      dump = { enable = true; backupDir = "/var/backup/forgejo"; };
    };
    networking.firewall.allowedTCPPorts = [ 3000 ];
  };

  ci = { config, ... }: {
    imports = [
      (needs "gitea-runner-forge" [ "runner-token" ])
      (only [ ])
    ];
    deployment.proxmox = {
      network = [ (inside "ci") ];
      memory = 4096;
      cpu.cores = 4;
    };
    deployment.keys.runner-token = secret "runner-token" { }; # TOKEN=…
    services.gitea-actions-runner.instances.forge = {
      enable = true;
      name = "ci";
      url = "http://git:3000";
      tokenFile = config.deployment.keys.runner-token.path;
      labels = [ "native:host" ];
    };
  };

  # What the forge has to say goes out by one machine.
  mail = { ... }: {
    imports = [ (only [ { macro = "SMTP"; from = [ "machine:git" ]; } ]) ];
    deployment.proxmox = {
      network = [ (inside "mail") ];
      memory = 512;
    };
    services.postfix = {
      enable = true;
      hostname = "mail.${domain}";
      networks = [ "127.0.0.0/8" "${addresses.git}/32" ];
    };
    networking.firewall.allowedTCPPorts = [ 25 ];
  };

  db = { config, pkgs, ... }: {
    imports = [
      (onVolume "database" "/var/lib/postgresql")
      (needs "forge-password" [ "db" ])
      (only [ { macro = "PostgreSQL"; from = [ "machine:git" ]; } ])
    ];
    deployment.proxmox = {
      network = [ (inside "db") ];
      onboot = true;
    };
    deployment.keys.db = secret "db" { user = "postgres"; };
    users.users.postgres.extraGroups = [ "keys" ];
    services.postgresql = {
      enable = true;
      package = pkgs.postgresql_16; # said here, so that another release of NixOS does not look for another version's data
      dataDir = "/var/lib/postgresql/16";
      enableTCPIP = true;
      ensureDatabases = [ "forgejo" ];
      ensureUsers = [ { name = "forgejo"; ensureDBOwnership = true; } ];
      authentication = "host forgejo forgejo ${addresses.git}/32 scram-sha-256";
    };
    # NixOS makes the role without a password, because all of its options are in the store.
    systemd.services.forge-password = {
      wantedBy = [ "multi-user.target" ];
      after = [ "postgresql.service" ];
      bindsTo = [ "postgresql.service" ];
      path = [ config.services.postgresql.package ];
      serviceConfig = { Type = "oneshot"; User = "postgres"; RemainAfterExit = true; };
      script = ''
        psql --set ON_ERROR_STOP=1 <<'SQL'
        \set password `cat ${config.deployment.keys.db.path}`
        alter role forgejo password :'password';
        SQL
      '';
    };
    services.postgresqlBackup = { enable = true; location = "/var/backup/postgresql"; };
    networking.firewall.allowedTCPPorts = [ 5432 ];
  };

  cache = { config, ... }: {
    imports = [
      (needs "redis-forge" [ "cache" ])
      (only [ { proto = "tcp"; port = 6379; from = [ "machine:git" ]; } ])
    ];
    deployment.proxmox = {
      network = [ (inside "cache") ];
      memory = 1024;
    };
    deployment.keys.cache = secret "cache" { user = "redis-forge"; };
    users.users.redis-forge.extraGroups = [ "keys" ];
    services.redis.servers.forge = {
      enable = true;
      bind = null; # all addresses: the rules above say who may ask
      port = 6379;
      requirePassFile = config.deployment.keys.cache.path;
    };
    networking.firewall.allowedTCPPorts = [ 6379 ];
  };
}
