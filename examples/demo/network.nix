# Three machines: web asks app, app asks db. Plain attribute sets: no nixpkgs, no NixOS; each machine gives its hardware
# (deployment.proxmox) and the system that it shall run (toplevel, a derivation in the shape of a NixOS system).
#
# DEMO_VERSION in the environment changes what web says, and nothing else: only web gets a new system then.
let
  fromEnvironment = name: default: let value = builtins.getEnv name; in if value == "" then default else value;
  version = fromEnvironment "DEMO_VERSION" "1";

  makeSystem = import ./system.nix;

  # Static addresses, IPv4 and IPv6, on the lab's first bridge; the names stand in every machine's /etc/hosts.
  addresses = {
    web = { ipv4 = "10.77.0.11"; ipv6 = "fd77:77::11"; };
    app = { ipv4 = "10.77.0.12"; ipv6 = "fd77:77::12"; };
    db = { ipv4 = "10.77.0.13"; ipv6 = "fd77:77::13"; };
  };

  machine = name: service: {
    deployment.proxmox = {
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
      tags = [ "demo" ];
    };
    toplevel = makeSystem {
      inherit name service;
      hosts = addresses;
    };
  };
in
{
  network.description = "web → app → db";

  # A service's handler writes the answer to one HTTP request on its standard output.
  web = machine "web" {
    port = 80;
    handler = ''
      answer=$(fetch-http http://app:8080/) || exit 1
      echo "web (version ${version}) -> $answer"
    '';
  };

  app = machine "app" {
    port = 8080;
    handler = ''
      answer=$(fetch-http http://db:5432/) || exit 1
      echo "app -> $answer"
    '';
  };

  db = machine "db" {
    port = 5432;
    handler = ''
      echo "db: $(cat /var/lib/demo/rows) rows"
    '';
  };
}
