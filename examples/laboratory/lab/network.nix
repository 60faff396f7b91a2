# The laboratory of ../network.nix on the lab's guests: Debian's daemons in place of NixOS's modules, and the desktop is a
# client outside. `scripts/demo laboratory` deploys it; it needs DEMO_PACKAGES in the environment, a folder that the script
# makes. The lab's guests have no NixOS modules, so each machine gives its system itself (nix/lab/daemons.nix).
let
  packages =
    let value = builtins.getEnv "DEMO_PACKAGES"; in
    if value == "" then throw "DEMO_PACKAGES is not set: scripts/demo laboratory makes that folder, and sets it" else value;

  # One store path for each part, so that a machine gets only what it runs.
  part = name: builtins.path { inherit name; path = "${packages}/${name}"; };

  domain = "example.lab";
  outside = number: "10.77.0.${toString number}";
  inside = number: "10.77.1.${toString number}";
  house = number: "10.77.5.${toString number}"; # for devices: the lab has no DHCP server there, so ours is the only one
  dns = inside 10;
  # They are the routers' together, and always on the same one.
  virtual = { outside = outside 254; inside = inside 254; house = house 254; };

  machine = name: { parts ? [ ], services ? { }, commands ? { }, environment ? { }, proxmox }: {
    deployment.proxmox = {
      disks = [ { storage = "shared"; size = "2G"; } ]; # HA can start it on another node
      install.iso = "local:iso/lab-installer.iso"; # the lab puts it there
      memory = 512;
      cpu.cores = 1;
      tags = [ "laboratory" ];
      ha = { affinity = true; }; # what is spread stays so, wherever HA starts it
    } // proxmox;
    toplevel = import ../../../nix/lab/daemons.nix {
      inherit name commands;
      title = "laboratory";
      library = ./library.sh;
      hosts = { };
      parts = map part parts;
      services = services // { exporter = ./exporter.sh; };
      environment = { NAME_SERVER = dns; DOMAIN = domain; } // environment;
    };
  };

  nic = bridge: address: gateway: {
    inherit bridge;
    ipv4 = { method = "static"; inherit address; prefix = 24; } // (if gateway == "" then { } else { inherit gateway; });
    ipv6 = "none";
  };

  # In the services' network, behind the routers.
  service = name: number: more: machine name (more // {
    proxmox = {
      network = [ (nic "vmbr1" (inside number) virtual.inside) ];
      endpoint.through = "router1";
    } // more.proxmox;
  });

  router = number: priority: machine "router${toString number}" {
    parts = [ "keepalived" ];
    services.router = ./router.sh;
    environment = { PRIORITY = toString priority; OUTSIDE = virtual.outside; INSIDE = virtual.inside; HOUSE = virtual.house; };
    proxmox = {
      network = [
        (nic "vmbr0" (outside (1 + number)) "")
        (nic "vmbr1" (inside (1 + number)) "")
        (nic "vmbr5" (house (1 + number)) "")
      ];
      placement = { spread = "routers"; strict = true; };
    };
  };

  # One of those that answer for www, as the nodes of a Kubernetes would.
  web = number: service "web${toString number}" (20 + number) {
    services.web = ./web.sh;
    proxmox.placement = { spread = "web"; strict = true; };
  };
in
{
  network.description = "a laboratory on three nodes";

  router1 = router 1 100;
  router2 = router 2 50;

  # Names for all, and addresses for the devices in the house.
  dns = service "dns" 10 {
    parts = [ "dnsmasq" ];
    services.dns = ./dns.sh;
    environment = {
      CONFIGURATION = builtins.toFile "dnsmasq.conf" ''
        no-resolv
        no-hosts
        domain=${domain}
        local=/${domain}/
        dhcp-range=${house 30},${house 45},48h
        dhcp-option=option:router,${virtual.house}
        host-record=www.${domain},${inside 11}
        host-record=metrics.${domain},${inside 12}
      '';
    };
    proxmox = {
      network = [ (nic "vmbr1" dns virtual.inside) (nic "vmbr5" (house 10) "") ];
      node = "pve3";
    };
  };

  proxy = service "proxy" 11 {
    parts = [ "haproxy" ];
    services.proxy = ./proxy.sh;
    environment.CONFIGURATION = ./haproxy.cfg;
    proxmox.node = "pve2";
  };

  # What it watches is written by `export prometheus`, and copied there.
  metrics = service "metrics" 12 {
    parts = [ "prometheus" ];
    services.metrics = ./metrics.sh;
    commands.ask = ./ask.sh;
    environment.CONFIGURATION = ./prometheus.yml;
    proxmox.node = "pve2";
  };

  web1 = web 1;
  web2 = web 2;

  # A client outside, whose way to the services is the virtual address. It has a NIC in the house, too, to ask for
  # what a new device would get there.
  desk = machine "desk" {
    commands = { watch = ./watch.sh; lease = ./lease.sh; };
    proxmox = {
      network = [ (nic "vmbr0" (outside 20) virtual.outside) (nic "vmbr5" (house 20) "") ];
      node = "pve3";
    };
  };
}
