# A laboratory on a cluster of three nodes. Its services have a network of their own, and two routers on different nodes
# share one address there (VRRP): if a node fails, the other router has it. HA starts elsewhere what was on that node.
#
#     pass generate laboratory/k3s         # the secret that `kube` names below
#     nixops-proxmox deploy -f examples/laboratory/network.nix
#     nixops-proxmox export -f examples/laboratory/network.nix prometheus --out machines.json
#     nixops-proxmox scp -f examples/laboratory/network.nix machines.json metrics:/var/lib/prometheus-targets/
#     nixops-proxmox console -f examples/laboratory/network.nix --spice desk
#
# The addresses and the storage `shared` are the lab's.
let
  inherit (builtins) attrNames concatStringsSep map;

  at = number: "10.77.1.${toString number}";
  router = at 254; # the address that the routers share
  domain = "example.lab";
  addresses = { dns = at 53; proxy = at 80; metrics = at 90; kube1 = at 101; kube2 = at 102; kube3 = at 103; desk = at 120; };
  kubes = [ "kube1" "kube2" "kube3" ];

  base = { lib, ... }: {
    deployment.proxmox = {
      disks = [ { storage = "shared"; size = "2G"; } ];
      install.iso = "local:iso/lab-installer.iso"; # the lab puts it there
      memory = lib.mkDefault 512;
    };
    services.prometheus.exporters.node = { enable = true; openFirewall = true; };
    system.stateVersion = "24.11";
  };

  # In the services' network, behind the routers.
  service = name: more: { ... }: {
    imports = [ base more ];
    deployment.proxmox = {
      network = [ { bridge = "vmbr1"; ipv4 = { address = "${addresses.${name}}/24"; gateway = router; }; dns = [ addresses.dns ]; search = [ domain ]; } ];
      endpoint.through = "router1";
      ha = { };
    };
  };

  # A node of a small Kubernetes. HA boots it without a deploy, so what it joins by is on its disk.
  kube = name: more: service name ({ config, ... }: {
    imports = [ more ];
    deployment.proxmox = { memory = 2048; placement.spread = "kube"; };
    deployment.keys.k3s = { keyCommand = [ "pass" "show" "laboratory/k3s" ]; destDir = "/var/lib/laboratory"; };
    services.k3s = { enable = true; tokenFile = config.deployment.keys.k3s.path; };
    systemd.services.k3s = { requires = [ "k3s-key.service" ]; after = [ "k3s-key.service" ]; };
    networking.firewall = {
      allowedTCPPorts = [ 80 10250 ]; # what it serves, and its kubelet
      allowedUDPPorts = [ 8472 ]; # flannel, between the nodes
    };
  });

  routing = number: priority: { ... }: {
    imports = [ base ];
    deployment.proxmox = {
      network = [
        { bridge = "vmbr0"; }
        { bridge = "vmbr1"; ipv4 = "${at number}/24"; ipv6 = "none"; }
      ];
      placement = { spread = "routers"; strict = true; };
      ha = { }; # since PVE 9.0, with `affinity = true`, the spread is a rule of HA's as well
    };
    services.nixops-proxmox.gateway = {
      enable = true;
      dhcp.enable = false; # that is what `dns` does
    };
    services.keepalived = {
      enable = true;
      vrrpInstances.services = {
        interface = "inside";
        state = if number == 2 then "MASTER" else "BACKUP";
        virtualRouterId = 10;
        inherit priority;
        virtualIps = [ { addr = "${router}/24"; } ];
      };
    };
    # The gateway's firewall is nftables, which keepalived's own openFirewall does not know.
    networking.firewall.extraInputRules = ''
      iifname "inside" ip protocol { vrrp, ah } accept
    '';
  };
in
{
  network.description = "a laboratory on three nodes";

  router1 = routing 2 100;
  router2 = routing 3 50;

  dns = service "dns" {
    services.dnsmasq = {
      enable = true;
      settings = {
        inherit domain;
        local = "/${domain}/";
        expand-hosts = true;
        dhcp-range = [ "${at 150},${at 199},48h" ];
        dhcp-option = [ "option:router,${router}" ];
        host-record = map (name: "${name}.${domain},${addresses.${name}}") (attrNames addresses);
      };
    };
    networking.firewall = { allowedUDPPorts = [ 53 67 ]; allowedTCPPorts = [ 53 ]; };
  };

  proxy = service "proxy" {
    services.haproxy = {
      enable = true;
      config = ''
        defaults
          mode http
          timeout connect 5s
          timeout client 50s
          timeout server 50s
        frontend www
          bind :80
          default_backend kube
        backend kube
          balance roundrobin
        ${concatStringsSep "\n" (map (name: "  server ${name} ${addresses.${name}}:80 check") kubes)}
      '';
    };
    networking.firewall.allowedTCPPorts = [ 80 ];
  };

  # What it watches is written by `export prometheus`, and follows the machines.
  metrics = service "metrics" {
    services.prometheus = {
      enable = true;
      scrapeConfigs = [ { job_name = "machines"; file_sd_configs = [ { files = [ "/var/lib/prometheus-targets/*.json" ]; } ]; } ];
    };
    networking.firewall.allowedTCPPorts = [ 9090 ];
    systemd.tmpfiles.rules = [ "d /var/lib/prometheus-targets 0755 root root -" ];
  };

  # The services of everybody else. Its Traefik answers at port 80 of each node.
  kube1 = kube "kube1" { networking.firewall.allowedTCPPorts = [ 6443 ]; };
  kube2 = kube "kube2" { services.k3s = { role = "agent"; serverAddr = "https://${addresses.kube1}:6443"; }; };
  kube3 = kube "kube3" { services.k3s = { role = "agent"; serverAddr = "https://${addresses.kube1}:6443"; }; };

  # A desktop to work on from elsewhere, by SPICE or VNC.
  desk = service "desk" {
    deployment.proxmox.display = "qxl";
    services.spice-vdagentd.enable = true;
    services.xserver = { enable = true; desktopManager.xfce.enable = true; };
  };
}
