# What a router, name server and reverse proxy set, with the definitions, priorities and assertions of NixOS's modules
# (services/networking/nat.nix, nftables.nix, dnsmasq.nix, services/web-servers/nginx, security/acme).
{ config, lib, ... }:

let
  inherit (lib) mkDefault mkIf mkOption mkOverride types;
  option = type: default: mkOption { inherit type default; };
  switch = option types.bool false;
  words = option (types.listOf types.str) [ ];
  perhaps = type: option (types.nullOr type) null;
  set = options: mkOption { type = types.attrsOf (types.submodule { inherit options; }); default = { }; };

  inherit (config.networking) firewall nat nftables;
  inherit (config.services) dnsmasq nginx;
  refuses = assertion: message: { inherit assertion message; };
  hosts = builtins.attrValues nginx.virtualHosts;
  hasCertificate = host: host.enableACME || host.useACMEHost != null || host.sslCertificate != null;
in
{
  options = {
    boot.kernel.sysctl = option (types.attrsOf (types.unique { message = ""; } (types.oneOf [ types.bool types.int types.str ]))) { };
    networking.enableIPv6 = option types.bool true;
    networking.firewall = {
      filterForward = switch;
      extraForwardRules = option types.lines "";
    };
    networking.nat = {
      enable = switch;
      enableIPv6 = switch;
      internalInterfaces = words;
      internalIPs = words;
      internalIPv6s = words;
      externalInterface = perhaps types.str;
      forwardPorts = option (types.listOf types.attrs) [ ];
    };
    networking.nftables = {
      enable = switch;
      preCheckRuleset = option types.lines "";
      tables = mkOption {
        default = { };
        type = types.attrsOf (types.submodule ({ name, ... }: {
          options = {
            enable = option types.bool true;
            name = option types.str name;
            content = mkOption { type = types.lines; };
            family = mkOption { type = types.enum [ "ip" "ip6" "inet" "arp" "bridge" "netdev" ]; };
          };
        }));
      };
    };
    services.dnsmasq = {
      enable = switch;
      resolveLocalQueries = option types.bool true;
      settings = mkOption {
        default = { };
        type = types.submodule { freeformType = types.attrsOf types.anything; options.server = words; };
      };
    };
    services.nginx = {
      enable = switch;
      recommendedProxySettings = switch;
      recommendedTlsSettings = switch;
      upstreams = set { servers = set { backup = switch; }; };
      virtualHosts = set {
        serverAliases = words;
        default = switch;
        enableACME = switch;
        useACMEHost = perhaps types.str;
        forceSSL = switch;
        addSSL = switch;
        onlySSL = switch;
        sslCertificate = perhaps types.path;
        sslCertificateKey = perhaps types.path;
        locations = set { proxyPass = perhaps types.str; proxyWebsockets = switch; extraConfig = option types.lines ""; };
      };
    };
    security.acme.acceptTerms = switch;
    security.acme.defaults.email = perhaps types.str;
    systemd.network.links = mkOption {
      default = { };
      type = types.attrsOf (types.submodule {
        options = lib.genAttrs [ "matchConfig" "linkConfig" ] (_: option (types.attrsOf types.anything) { });
      });
    };
  };

  config = lib.mkMerge [
    {
      boot.kernel.sysctl."net.ipv4.conf.all.forwarding" = mkDefault false; # as tasks/network-interfaces.nix does
      assertions = [
        (refuses (firewall.filterForward -> nftables.enable) "filterForward only works with the nftables based firewall")
      ];
    }
    (mkIf nat.enable {
      assertions = [
        (refuses (nat.enableIPv6 -> config.networking.enableIPv6) "networking.nat.enableIPv6 requires networking.enableIPv6")
        (refuses (nat.forwardPorts != [ ] -> nat.externalInterface != null) "networking.nat.forwardPorts requires networking.nat.externalInterface")
      ];
      boot.kernel.sysctl = {
        "net.ipv4.conf.all.forwarding" = mkOverride 99 true;
        "net.ipv4.conf.default.forwarding" = mkOverride 99 true;
      } // lib.optionalAttrs nat.enableIPv6 {
        "net.ipv6.conf.all.accept_ra" = mkOverride 99 2;
        "net.ipv6.conf.default.accept_ra" = mkOverride 99 2;
        "net.ipv6.conf.all.forwarding" = mkOverride 99 true;
        "net.ipv6.conf.default.forwarding" = mkOverride 99 true;
      };
    })
    (mkIf dnsmasq.enable {
      services.dnsmasq.settings = {
        dhcp-leasefile = mkDefault "/var/lib/dnsmasq/dnsmasq.leases";
        conf-file = mkDefault (lib.optional dnsmasq.resolveLocalQueries "/etc/dnsmasq-conf.conf");
        resolv-file = mkDefault (lib.optional dnsmasq.resolveLocalQueries "/etc/dnsmasq-resolv.conf");
      };
      networking.nameservers = lib.optional dnsmasq.resolveLocalQueries "127.0.0.1";
      users.users.dnsmasq = { isSystemUser = true; group = "dnsmasq"; };
      users.groups.dnsmasq = { };
    })
    (mkIf nginx.enable {
      users.users.nginx = { isSystemUser = true; group = "nginx"; };
      users.groups.nginx = { };
      assertions = [
        (refuses (lib.all (host: lib.count lib.id [ host.addSSL host.onlySSL host.forceSSL ] <= 1) hosts)
          "Options services.nginx.service.virtualHosts.<name>.addSSL, services.nginx.virtualHosts.<name>.onlySSL and services.nginx.virtualHosts.<name>.forceSSL are mutually exclusive.")
        (refuses (lib.all (host: !(host.enableACME && host.useACMEHost != null)) hosts)
          "Options services.nginx.service.virtualHosts.<name>.enableACME and services.nginx.virtualHosts.<name>.useACMEHost are mutually exclusive.")
        (refuses (lib.all (host: host.forceSSL -> hasCertificate host) hosts) "a host of nginx has TLS, and no certificate")
      ];
    })
    (mkIf (nginx.enable && lib.any (host: host.enableACME) hosts) {
      assertions = [
        (refuses config.security.acme.acceptTerms "You must accept the CA's terms of service before using the ACME module by setting `security.acme.acceptTerms` to `true`.")
        (refuses (config.security.acme.defaults.email != null) "You must define `security.acme.certs.<name>.email` or `security.acme.defaults.email` to register with the CA.")
      ];
    })
  ];
}
