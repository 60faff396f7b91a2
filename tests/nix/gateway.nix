# Gateways, evaluated beside NixOS's own modules (a nixpkgs tree) or the stand-in for them.
{ nixpkgs }:

let
  lib = import (if builtins.pathExists (nixpkgs + "/lib") then nixpkgs + "/lib" else <nixpkgs-lib>);
  mac = "BC:24:11:00:00:0";
  key = "ssh-ed25519 AAAA me";

  system = modules: nodes: import (nixpkgs + "/nixos/lib/eval-config.nix") {
    system = "x86_64-linux";
    specialArgs = { inherit nodes; };
    modules = [
      ../../nix/proxmox.nix
      ../../nix/nixops.nix
      ../../nix/gateway.nix
      {
        system.stateVersion = "24.05";
        deployment.proxmox = {
          disks.scsi0 = { storage = "local-lvm"; size = 8; };
          ssh.authorizedKeys = [ key ];
        };
      }
    ] ++ modules;
  };

  gate = network: {
    deployment.proxmox.network = [ { bridge = "vmbr0"; } ({ bridge = "vmbr1"; } // network) ];
    services.nixops-proxmox.gateway.enable = true;
  };
  four = gate { ipv4 = "10.20.0.1/24"; ipv6 = "none"; };
  six = gate { ipv4 = "none"; ipv6 = "fd20::1/64"; mac = "${mac}1"; };
  both = gate { ipv4 = "10.20.0.1/20"; ipv6 = "fd20:0:0:0::1/64"; };
  with' = said: { services.nixops-proxmox.gateway = said; };

  # What stands behind it: a static machine, one whose address DHCP gives, one from a list of MACs, one on another bridge.
  behind = {
    web.deployment.proxmox.network.net0 = { bridge = "vmbr1"; ipv4 = "10.20.0.10/24"; ipv6 = "fd20:0:0:0:0::a/64"; };
    app.deployment.proxmox.network.net0 = { bridge = "vmbr1"; mac = "${mac}A"; ipv4 = { method = "dhcp"; address = "10.20.0.11"; }; };
    ci.deployment.proxmox = {
      network.net0 = { bridge = "vmbr1"; pool = "campus"; };
      guest.taken.net0 = { mac = "${mac}B"; ipv4 = "10.20.0.12"; };
    };
    free.deployment.proxmox.network.net0 = { bridge = "vmbr1"; mac = "${mac}C"; };
    far.deployment.proxmox.network.net0 = { bridge = "vmbr0"; ipv4 = "192.0.2.5/24"; };
    vlan.deployment.proxmox.network.net0 = { bridge = "vmbr1"; tag = 5; ipv4 = "10.20.0.13/24"; };
  };

  gateway = modules:
    let
      nodes = lib.mapAttrs (_: module: system [ module ] nodes) behind // { gate = made; };
      made = system modules nodes;
      inherit (made) config;
    in
    made.config // {
      told = {
        failed = map (one: one.message) (builtins.filter (one: !one.assertion) config.assertions);
        inherit (config.services.nixops-proxmox.gateway) machines;
        sshd = config.services.openssh.extraConfig;
        user = lib.mapAttrs (_: user: { inherit (user) isSystemUser isNormalUser group; keys = user.openssh.authorizedKeys.keys; })
          (lib.filterAttrs (name: _: name == "jump") config.users.users);
        tables = lib.mapAttrs (_: table: { inherit (table) family content; }) config.networking.nftables.tables;
        precheck = config.networking.nftables.preCheckRuleset;
        nat = { inherit (config.networking.nat) enable enableIPv6 internalIPs internalIPv6s; };
        forward = { inherit (config.networking.firewall) filterForward extraForwardRules; };
        open = { inherit (config.networking.firewall) allowedTCPPorts; inside = lib.mapAttrs (_: one: { inherit (one) allowedTCPPorts allowedUDPPorts; }) config.networking.firewall.interfaces; };
        sysctl = lib.filterAttrs (name: _: lib.hasInfix "forwarding" name || lib.hasInfix "accept_ra" name) config.boot.kernel.sysctl;
        dnsmasq = if config.services.dnsmasq.enable then config.services.dnsmasq.settings else null;
        links = lib.mapAttrs (_: one: { inherit (one) matchConfig linkConfig; }) config.systemd.network.links;
        sites = lib.mapAttrs
          (_: one: { inherit (one) serverAliases enableACME forceSSL default; locations = lib.mapAttrs (_: at: at.proxyPass) one.locations; })
          config.services.nginx.virtualHosts;
        upstreams = lib.mapAttrs (_: one: builtins.attrNames one.servers) config.services.nginx.upstreams;
      };
    };
in
lib.mapAttrs (_: modules: (gateway modules).told) {
  four = [ four ];
  six = [ six (with' { ipv6.mode = "nat66"; }) ];
  both = [ both (with' { ipv6.mode = "routed"; ipv4.nat = false; jump.also = [ "10.20.1.9:5432" ]; dhcp = { range = "10.20.4.1-10.20.4.2"; servers = [ "9.9.9.9" ]; domain = ""; }; }) ];
  bare = [ four (with' { dhcp.enable = false; jump.enable = false; }) ];
  web = [
    four
    { security.acme = { acceptTerms = true; defaults.email = "me@example.org"; }; }
    (with' {
      machines.old.ipv4 = "10.20.0.99";
      web = {
        "www.example.org" = { to = "web"; acme = true; aliases = [ "example.org" ]; };
        "app.example.org" = { to = [ "app" "ci" ]; port = 8080; };
        "key.example.org" = { to = "10.20.0.77"; scheme = "https"; port = 443; certificate = "/run/keys/a.pem"; key = "/run/keys/a.key"; };
        "_" = { to = "old"; };
      };
    })
  ];
  lab = [ (gate { ipv4 = "10.77.1.1/24"; ipv6 = "none"; }) ];
  loopback = [ (gate { ipv4 = "127.77.0.1/28"; ipv6 = "none"; }) ];
  noNic = [ four (with' { inside.nic = "net7"; }) ];
  noAddress = [ (gate { }) ];
  noSix = [ four (with' { ipv6.mode = "routed"; }) ];
  sixNone = [ (gate { ipv4 = "10.20.0.1/24"; ipv6 = "fd20::1/64"; }) ];
  unknownSite = [ four (with' { web."www.example.org" = { to = [ "free" "nobody" "web" ]; }; }) ];
  halfCertificate = [ four (with' { web."www.example.org" = { to = "web"; certificate = "/run/a.pem"; }; }) ];
  storeKey = [ four (with' { web."www.example.org" = { to = "web"; certificate = "/run/a.pem"; key = "${builtins.storeDir}/a.key"; }; }) ];
  rootJumps = [ four (with' { jump.user = "root"; }) ];
  ownOptions = [ four (with' { jump.keys = [ "command=\"sh\" ssh-ed25519 AAAA x" ]; }) ];
  noTables = [ four { networking.nftables.enable = false; networking.firewall.filterForward = false; } ];
}
