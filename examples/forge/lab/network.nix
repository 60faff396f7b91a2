# The forge of ../network.nix on the lab's guests: the same six machines, with Debian's daemons in place of NixOS's
# modules. `scripts/demo forge` deploys it; it needs DEMO_PACKAGES and FORGE_SECRETS in the environment, two folders that
# the script makes. The lab's guests have no NixOS modules, so each machine gives its system itself (nix/lab/daemons.nix).
let
  folder = name:
    let value = builtins.getEnv name; in
    if value == "" then throw "${name} is not set: scripts/demo forge makes that folder, and sets it" else value;

  # One store path for each part, so that a machine gets only what it runs.
  part = name: builtins.path { inherit name; path = "${folder "DEMO_PACKAGES"}/${name}"; };

  # The values are read when a machine is deployed, and are in no store path.
  secret = name: user: { keyFile = "${folder "FORGE_SECRETS"}/${name}"; inherit user; };

  volumePath = identity: name: (import ../../../nix/volume-paths.nix { inherit identity; names = [ name ]; }).${name};

  addresses = {
    web = { ipv4 = "10.77.0.31"; ipv6 = "fd77:77::31"; };
    git = { ipv4 = "10.77.0.32"; ipv6 = "fd77:77::32"; };
    ci = { ipv4 = "10.77.0.33"; ipv6 = "fd77:77::33"; };
    notify = { ipv4 = "10.77.0.34"; ipv6 = "fd77:77::34"; };
    db = { ipv4 = "10.77.0.35"; ipv6 = "fd77:77::35"; };
    cache = { ipv4 = "10.77.0.36"; ipv6 = "fd77:77::36"; };
  };

  machine = name: { parts, services, commands ? { }, environment ? { }, users ? { }, keys ? { }, volumes ? [ ] }: {
    deployment = {
      inherit keys;
      proxmox = {
        disks = [ { storage = "local-lvm"; size = "2G"; } ];
        install.iso = "local:iso/lab-installer.iso"; # the lab puts it there
        memory = 512;
        cpu.cores = 1;
        network = [
          {
            bridge = "vmbr0";
            ipv4 = { method = "static"; address = addresses.${name}.ipv4; prefix = 24; };
            ipv6 = { method = "static"; address = addresses.${name}.ipv6; prefix = 64; };
          }
        ];
        tags = [ "forge" ];
        inherit volumes;
      };
    };
    toplevel = { deploymentName }: import ../../../nix/lab/daemons.nix {
      title = "forge";
      library = ./library.sh;
      folders = [ "usr/lib/postgresql/15/bin" ];
      inherit name services commands users;
      hosts = addresses;
      parts = map part parts;
      environment = environment // (if volumes == [ ] then { } else { VOLUME = volumePath deploymentName (builtins.head volumes); });
    };
  };
in
{
  network.description = "a forge on six machines";

  # The data outlive the machine that keeps them.
  resources.volumes.db-data = { storage = "local-lvm"; size = "512M"; protect = false; };

  # All requests come here.
  web = machine "web" {
    parts = [ "http" ];
    services.proxy = ./proxy.sh;
    environment.CONFIGURATION = ./proxy.conf;
    users.nginx = 60;
  };

  # The repositories: over HTTP by git-http-backend, and over SSH by the system's own sshd.
  git = machine "git" {
    parts = [ "http" "git" "psql" "redis" ];
    services = { http = ./git.sh; };
    environment = { CONFIGURATION = ./git.conf; HOOK = ./post-receive.sh; PAGE = ./page.sh; };
    commands = { git-receive-pack = ./git-over-ssh.sh; git-upload-pack = ./git-over-ssh.sh; };
    users = { git = 501; nginx = 60; };
    keys = { db = secret "db" "git"; cache = secret "cache" "git"; pushers = secret "pushers" "nginx"; };
  };

  ci = machine "ci" {
    parts = [ "git" "psql" "redis" ];
    services.runner = ./runner.sh;
    keys = { db = secret "db" "root"; cache = secret "cache" "root"; };
  };

  notify = machine "notify" {
    parts = [ "redis" ];
    services = { notifier = ./notifier.sh; mailbox = ./mailbox.sh; };
    keys.cache = secret "cache" "root";
  };

  db = machine "db" {
    parts = [ "postgresql" "psql" ];
    services.postgresql = ./postgresql.sh;
    commands.psql-forge = ./psql-forge.sh;
    environment = { SCHEMA = ./schema.sql; ACCESS = ./pg_hba.conf; };
    users.postgres = 71;
    keys.db = secret "db" "postgres";
    volumes = [ "db-data" ];
  };

  cache = machine "cache" {
    parts = [ "redis" ];
    services.redis = ./redis.sh;
    keys.cache = secret "cache" "root";
  };
}
