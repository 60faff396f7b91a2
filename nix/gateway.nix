# A machine that stands between an isolated bridge and the rest: router, DHCP and name server for the inside, SSH jump host,
# and reverse proxy. What it says of machines follows the machines of the network.
{ config, lib, options, pkgs, ... }@args:

let
  inherit (lib) mkDefault mkIf mkMerge mkOption optional optionals types;
  inherit (types) attrsOf bool either enum listOf nullOr port str submodule;
  addresses = import ./addresses.nix { inherit lib; };
  inherit (addresses) bare between fromMac hostsOf isSix middleOf networkOf split;

  cfg = config.services.nixops-proxmox.gateway;
  me = "services.nixops-proxmox.gateway";
  nics = config.deployment.proxmox.guest.nics;
  inside = nics.${cfg.inside.nic} or null;

  switch = default: description: mkOption { type = bool; inherit default description; };
  perhaps = type: example: description: mkOption { type = nullOr type; default = null; inherit example description; };
  texts = example: description: mkOption { type = listOf str; default = [ ]; inherit example description; };

  # ---- the inside ----

  own4 = if inside == null || lib.hasSuffix "/32" (toString inside.static4) then null else inside.static4;
  own6 = if inside == null then null else inside.static6;
  networks4 = optional (own4 != null) (networkOf own4);
  networks6 = optional (own6 != null) (networkOf own6);
  isWide = own4 != null && (split own4).prefix < 24;

  # ---- the machines behind it ----

  # Where a network's machines stand: an argument of the modules in a network of ours and with NixOps 2. In a flake, the
  # machines are said (`machines`, or `nodes`).
  known = args.nodes or config._module.args.nodes or { };

  segmentOf = nic: { inherit (nic) bridge tag network; };
  behind = node:
    let
      proxmox = node.config.deployment.proxmox or null;
      theirs = if proxmox == null || (node.config.deployment.targetEnv or "proxmox") != "proxmox" then { } else proxmox.guest.nics;
      found = builtins.filter (nic: segmentOf nic == segmentOf inside) (builtins.attrValues theirs);
    in
    if inside == null || found == [ ] then null else builtins.head found;
  isMe = nic: nic.static4 == own4 && nic.static6 == own6;
  fromNetwork = lib.filterAttrs (_: nic: nic != null && !(isMe nic)) (lib.mapAttrs (_: behind) cfg.nodes);

  machine = {
    options = {
      ipv4 = perhaps str "10.20.0.10" "Its IPv4 address.";
      ipv6 = perhaps str "fd20::10" "Its IPv6 address.";
      mac = perhaps str "BC:24:11:00:00:01" "Its MAC address. With it, DHCP gives the machine its addresses, and the installer has the same ones.";
    };
  };
  # The address that it gives itself while it is installed, if its network is one that allows it.
  own = one: optionals (one.mac != null) (map (network: fromMac network one.mac) (builtins.filter (lib.hasSuffix "/64") networks6));
  given = one: map bare (builtins.filter (address: address != null) [ one.ipv4 one.ipv6 ]);
  addressesOf = one: lib.unique (given one ++ own one);
  named = lib.filterAttrs (_: one: given one != [ ]) cfg.machines;

  # ---- what may be reached through it ----

  bracketed = address: if isSix address then "[${address}]" else address;
  names = name: [ name ] ++ optional (cfg.dhcp.domain != "") "${name}.${cfg.dhcp.domain}";
  range =
    if own4 == null then null
    else if cfg.dhcp.range == null then middleOf own4
    else let ends = lib.splitString "-" cfg.dhcp.range; in { first = builtins.head ends; last = lib.last ends; };
  targets = lib.unique (
    (if own4 == null || isWide then optionals (isWide && cfg.dhcp.enable) (between range.first range.last) else builtins.filter (address: address != bare own4) (hostsOf own4))
    ++ lib.concatMap addressesOf (builtins.attrValues cfg.machines)
    ++ lib.concatMap names (builtins.attrNames named)
  );
  # As rules of the kernel's; null for a place that has no address of its own.
  ruleOf = place:
    let six = builtins.match "\\[([^]]+)]:([0-9]+)" place; four = builtins.match "([0-9.]+):([0-9]+)" place; in
    if six != null then "ip6 daddr ${builtins.head six} tcp dport ${lib.last six} accept"
    else if four != null then "ip daddr ${builtins.head four} tcp dport ${lib.last four} accept"
    else null;
  alsoRules = map ruleOf cfg.jump.also;
  open = lib.concatMap (host: map (number: "${bracketed host}:${toString number}") cfg.jump.ports) targets ++ cfg.jump.also;

  # Only what the key is for, whatever else sshd is told.
  restricted = key: if builtins.match "(ssh|ecdsa|sk)-.*" key != null then "restrict,port-forwarding ${key}" else key;
  isPlainKey = key: builtins.match "(ssh|ecdsa|sk)-[^\n]*" key != null;

  mayOnlyJump = cfg.jump.user != "root" && cfg.jump.user != config.deployment.proxmox.ssh.user;

  refuse = if pkgs ? shadow then "${pkgs.shadow}/bin/nologin" else "/run/current-system/sw/bin/nologin";

  # ---- the reverse proxy ----

  site = {
    options = {
      to = mkOption { type = either str (listOf str); example = "web"; description = "The machine that answers, or several: a name of `machines`, or an address."; };
      port = mkOption { type = port; default = 80; description = "The port there."; };
      scheme = mkOption { type = enum [ "http" "https" ]; default = "http"; description = "How the machine is asked."; };
      acme = switch false "Whether to get a certificate by ACME, and to send browsers from HTTP to HTTPS. Needs `security.acme.acceptTerms` and an e-mail address.";
      certificate = perhaps str "/run/keys/www.pem" "The path of a certificate on the gateway, instead of ACME.";
      key = perhaps str "/run/keys/www.key" "The path of its private key on the gateway. Write it as a string, so that the key stays out of the Nix store.";
      aliases = texts [ "example.org" ] "Other names of the site.";
    };
  };
  hostsFor = one: map (name: if cfg.machines ? ${name} then at name else name) (lib.toList one.to);
  at = name: let found = given cfg.machines.${name}; in if found == [ ] then name else builtins.head found;
  upstreams = lib.filterAttrs (_: one: builtins.isList one.to) cfg.web;
  upstreamOf = name: "gateway-${builtins.replaceStrings [ "." ":" "*" ] [ "-" "-" "any" ] name}";
  isAddress = text: isSix text || builtins.match "[0-9.]+" text != null;
  unknownOf = one: builtins.filter (name: !(isAddress name) && !(named ? ${name})) (lib.toList one.to);
  hasTls = one: one.acme || one.certificate != null;
  virtualHost = name: one: {
    serverAliases = one.aliases;
    enableACME = one.acme;
    forceSSL = hasTls one;
    locations."/" = {
      proxyPass =
        if builtins.isList one.to then "${one.scheme}://${upstreamOf name}"
        else "${one.scheme}://${bracketed (builtins.head (hostsFor one))}:${toString one.port}";
      proxyWebsockets = true;
    };
  } // lib.optionalAttrs (one.certificate != null) { sslCertificate = one.certificate; sslCertificateKey = one.key; };

  # NixOS before 23.05 has no tables of nftables: there, everything but a refusal is left out.
  isOld = !(options.networking ? nftables && options.networking.nftables ? tables);

  says = assertion: message: { inherit assertion; message = "${me}${message}"; };
in
{
  options.services.nixops-proxmox.gateway = {
    enable = switch false "Whether the machine is the gateway of an isolated bridge.";
    nodes = mkOption {
      type = types.raw;
      default = known;
      defaultText = lib.literalExpression "the machines of the network";
      example = lib.literalExpression "self.nixosConfigurations";
      description = "The NixOS systems among which it looks for the machines behind it. In a network they are known. In a flake, say `self.nixosConfigurations`.";
    };
    inside = {
      nic = mkOption { type = str; default = "net1"; description = "The slot of the NIC on the isolated bridge. The NIC needs a static address, with its prefix: its network is the inside."; };
      interface = mkOption { type = str; default = "inside"; description = "The name that its interface gets."; };
    };
    ipv4.nat = switch true "Whether the inside gets out by IPv4 under the gateway's address.";
    ipv6.mode = mkOption {
      type = enum [ "none" "routed" "nat66" ];
      default = "none";
      description = "How the inside gets out by IPv6: not at all, under its own addresses (the router outside must know the way to the inside's network), or under the gateway's address.";
    };
    machines = mkOption {
      type = attrsOf (submodule machine);
      default = { };
      description = "The machines behind it, by name. Those of the network are known: their static addresses, those that a list of MACs gives them, and those that DHCP is to give them.";
    };
    dhcp = {
      enable = switch true "Whether the gateway gives the inside addresses by DHCP and router advertisements, and answers as its name server.";
      range = perhaps str "10.20.0.100-10.20.0.199" "The first and the last IPv4 address for machines that have none of their own. The default is the middle of the network.";
      leaseTime = mkOption { type = str; default = "1h"; description = "How long an address is given for."; };
      domain = mkOption { type = str; default = "internal"; description = "The domain of the inside. Empty: no domain."; };
      servers = texts [ "9.9.9.9" ] "The name servers that it asks. Without any, it asks those of the gateway itself.";
    };
    jump = {
      enable = switch true "Whether there is a user who may only forward connections to the inside: without a shell, a command, or a terminal.";
      user = mkOption { type = str; default = "jump"; description = "The user's name."; };
      keys = texts [ "ssh-ed25519 AAAA… me@example" ] "The public keys that may jump, besides those that may log in to deploy.";
      ports = mkOption { type = listOf port; default = [ 22 ]; description = "The ports of the inside to which the user may forward."; };
      also = texts [ "10.20.0.10:5432" ] "More places to which the user may forward, each as sshd's `PermitOpen` takes it.";
    };
    web = mkOption {
      type = attrsOf (submodule site);
      default = { };
      example = { "www.example.org" = { to = "web"; acme = true; }; };
      description = "The sites that the reverse proxy answers, by host name. `_` is the site for all other names.";
    };
  };

  config = mkMerge ([
    (mkIf cfg.enable {
      services.nixops-proxmox.gateway.machines = lib.mapAttrs
        (_: nic: lib.mapAttrs (_: mkDefault) { inherit (nic) ipv4 ipv6 mac; })
        fromNetwork;
      assertions = [
        (says (!isOld) ": NixOS 23.05 or newer is needed, for networking.nftables.tables")
        (says (isOld || config.networking.nftables.enable) " needs networking.nftables.enable")
        (says (inside != null) ".inside.nic: deployment.proxmox.network has no ${cfg.inside.nic}")
        (says (inside == null || own4 != null || own6 != null) ".inside.nic: ${cfg.inside.nic} needs a static address with its prefix, for its network is the inside")
        (says (cfg.ipv6.mode == "none" || own6 != null) ".ipv6.mode: ${cfg.inside.nic} has no static IPv6 address")
        (says (builtins.all isPlainKey cfg.jump.keys) ".jump.keys: a key begins with its type, such as ssh-ed25519: who may do what is not said in it")
        (says (!cfg.jump.enable || mayOnlyJump) ".jump.user: ${cfg.jump.user} is a user who may do more than jump")
      ] ++ lib.concatLists (lib.mapAttrsToList
        (name: one: [
          (says (unknownOf one == [ ]) ".web.\"${name}\".to: no address is known of ${toString (unknownOf one)}: give it a static address, or say it in ${me}.machines")
          (says ((one.certificate == null) == (one.key == null)) ".web.\"${name}\": a certificate needs its key, and a key its certificate")
          (says (!(one.acme && one.certificate != null)) ".web.\"${name}\": expected acme or certificate, not both")
          (says (one.key == null || !(lib.hasPrefix builtins.storeDir one.key)) ".web.\"${name}\".key: it is in the Nix store, which everybody can read")
        ])
        cfg.web);
    })
  ] ++ optionals (!isOld) [
    # By its place, as guest.nix finds it, or by its MAC.
    (mkIf (cfg.enable && inside != null) {
      systemd.network.links."10-gateway-inside" = {
        matchConfig = if inside.mac != null then { PermanentMACAddress = lib.toLower inside.mac; } else { Path = inside.path; };
        linkConfig = { Name = cfg.inside.interface; AlternativeNamesPolicy = "path slot onboard mac"; };
      };
    })

    (mkIf cfg.enable {
      networking = {
        nftables.enable = mkDefault true;
        # What gets in: answers, what networking.nat.forwardPorts lets in, and what extraForwardRules says. Nothing else.
        firewall.filterForward = mkDefault true;
        firewall.extraForwardRules = lib.optionalString (!cfg.ipv4.nat || cfg.ipv6.mode != "none") ''
          iifname "${cfg.inside.interface}" accept comment "from the inside"
        '';
        nat = mkIf (cfg.ipv4.nat && own4 != null || cfg.ipv6.mode == "nat66") {
          enable = true;
          enableIPv6 = cfg.ipv6.mode == "nat66";
          internalIPs = mkIf cfg.ipv4.nat networks4;
          internalIPv6s = mkIf (cfg.ipv6.mode == "nat66") networks6;
        };
      };
      # As strong as networking.nat, which says the same: NixOS itself says no by default.
      boot.kernel.sysctl = lib.optionalAttrs (own4 != null && !config.networking.nat.enable) {
        "net.ipv4.conf.all.forwarding" = lib.mkOverride 99 true;
      } // lib.optionalAttrs (cfg.ipv6.mode == "routed") {
        "net.ipv6.conf.all.forwarding" = lib.mkOverride 99 true;
        "net.ipv6.conf.default.forwarding" = lib.mkOverride 99 true;
        "net.ipv6.conf.all.accept_ra" = lib.mkOverride 99 2; # else the gateway itself would lose its way out
      };
    })

    (mkIf (cfg.enable && cfg.dhcp.enable) {
      services.dnsmasq = {
        enable = true;
        resolveLocalQueries = mkDefault false;
        settings = {
          interface = [ cfg.inside.interface ];
          bind-dynamic = true;
          except-interface = [ "lo" ];
          no-hosts = true; # the gateway's own names are none of the inside's
          domain-needed = true;
          bogus-priv = true;
          dhcp-authoritative = true;
          server = cfg.dhcp.servers;
          host-record = lib.mapAttrsToList (name: one: lib.concatStringsSep "," (names name ++ given one)) named;
          dhcp-host = lib.mapAttrsToList
            (name: one: lib.concatStringsSep "," ([ one.mac ] ++ builtins.filter (address: !(isSix address)) (given one) ++ [ name ]))
            (lib.filterAttrs (_: one: one.mac != null) named);
          dhcp-range = optional (range != null) "${range.first},${range.last},${cfg.dhcp.leaseTime}"
            ++ map (network: "${(split network).address},ra-stateless,ra-names,${toString (split network).prefix}") networks6;
          enable-ra = networks6 != [ ];
        } // lib.optionalAttrs (cfg.dhcp.domain != "") {
          domain = cfg.dhcp.domain;
          local = "/${cfg.dhcp.domain}/";
          expand-hosts = true;
        } // lib.optionalAttrs (cfg.dhcp.servers != [ ]) { no-resolv = true; };
      };
      networking.firewall.interfaces.${cfg.inside.interface} = { allowedUDPPorts = [ 53 67 547 ]; allowedTCPPorts = [ 53 ]; };
    })

    (mkIf (cfg.enable && cfg.jump.enable && mayOnlyJump) {
      users.users.${cfg.jump.user} = {
        isSystemUser = true;
        group = cfg.jump.user;
        shell = refuse;
        openssh.authorizedKeys.keys = map restricted
          (lib.unique (cfg.jump.keys ++ builtins.filter isPlainKey config.users.users.${config.deployment.proxmox.ssh.user}.openssh.authorizedKeys.keys));
      };
      users.groups.${cfg.jump.user} = { };

      # sshd compares PermitOpen as text, so every place stands there. `Match all` ends the block.
      services.openssh.extraConfig = lib.mkAfter ''
        Match User ${cfg.jump.user}
          AllowTcpForwarding local
          PermitOpen ${if open == [ ] then "none" else lib.concatStringsSep " " open}
          PermitListen none
          PermitTTY no
          ForceCommand ${refuse}
          AllowAgentForwarding no
          AllowStreamLocalForwarding no
          GatewayPorts no
          PermitTunnel no
          PermitUserRC no
          X11Forwarding no
          AuthenticationMethods publickey
        Match all
      '';

      # The same once more, by the kernel: sshd makes these connections as the user. A name may be looked up.
      networking.nftables.tables.nixops-proxmox-gateway = {
        family = "inet";
        content = ''
          chain jump {
            type filter hook output priority filter; policy accept;
            meta skuid != "${cfg.jump.user}" accept
            ct state established,related accept
            ${lib.concatMapStringsSep "\n  " (network: "ip daddr ${network} accept") networks4}
            ${lib.concatMapStringsSep "\n  " (network: "ip6 daddr ${network} accept") networks6}
            oifname "lo" accept
            udp dport 53 accept
            ${lib.concatStringsSep "\n  " (if builtins.elem null alsoRules then [ "accept" ] else alsoRules ++ [ "reject" ])}
          }
        '';
      };
      # The check at build time knows no user of the gateway.
      networking.nftables.preCheckRuleset = "sed 's/skuid != \"${cfg.jump.user}\"/skuid != 65534/' -i ruleset.conf";
    })

    (mkIf (cfg.enable && cfg.web != { }) {
      services.nginx = {
        enable = true;
        recommendedProxySettings = mkDefault true;
        recommendedTlsSettings = mkDefault true;
        upstreams = lib.mapAttrs'
          (name: one: lib.nameValuePair (upstreamOf name) {
            servers = lib.genAttrs (map (host: "${bracketed host}:${toString one.port}") (hostsFor one)) (_: { });
          })
          upstreams;
        virtualHosts = lib.mapAttrs' (name: one: lib.nameValuePair name (virtualHost name one // lib.optionalAttrs (name == "_") { default = true; })) cfg.web;
      };
      networking.firewall.allowedTCPPorts = [ 80 ] ++ optional (lib.any hasTls (builtins.attrValues cfg.web)) 443;
    })
  ]);
}
