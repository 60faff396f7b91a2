# What a laboratory's machines set, with the assertions of NixOS's modules (services/networking/keepalived and haproxy.nix,
# services/cluster/k3s, services/monitoring/prometheus, services/misc/spice-vdagentd.nix, services/x11/xserver.nix).
{ config, lib, ... }:

let
  inherit (lib) mkIf mkOption types;
  option = type: default: mkOption { inherit type default; };
  switch = option types.bool false;
  need = type: mkOption { inherit type; };
  words = option (types.listOf types.str) [ ];

  inherit (config.services) k3s keepalived prometheus;
  instances = keepalived.vrrpInstances;
in
{
  options = {
    services.keepalived = {
      enable = switch;
      openFirewall = switch;
      vrrpInstances = mkOption {
        default = { };
        type = types.attrsOf (types.submodule {
          options = {
            interface = need types.str;
            state = option (types.enum [ "MASTER" "BACKUP" ]) "BACKUP";
            virtualRouterId = need (types.ints.between 1 255);
            priority = option types.int 100;
            virtualIps = option (types.listOf (types.submodule { options.addr = need types.str; })) [ ];
          };
        });
      };
    };
    services.haproxy = { enable = switch; config = option (types.nullOr types.lines) null; };
    services.k3s = {
      enable = switch;
      role = option (types.enum [ "server" "agent" ]) "server";
      serverAddr = option types.str "";
      token = option types.str "";
      tokenFile = option (types.nullOr types.path) null;
    };
    services.prometheus = {
      enable = switch;
      scrapeConfigs = option
        (types.listOf (types.submodule {
          options = {
            job_name = need types.str;
            file_sd_configs = option (types.listOf (types.submodule { options.files = need (types.listOf types.str); })) [ ];
          };
        })) [ ];
      exporters.node = { enable = switch; openFirewall = switch; port = option types.port 9100; };
    };
    services.spice-vdagentd.enable = switch;
    services.tang = {
      enable = switch;
      listenStream = option (types.listOf types.str) [ "7654" ];
      ipAddressAllow = option (types.listOf types.str) [ ]; # NixOS has no default for it
    };
    services.xserver = { enable = switch; desktopManager.xfce.enable = switch; };
    systemd.tmpfiles.rules = words;
    systemd.mounts = option (types.listOf types.attrs) [ ];
  };

  config = lib.mkMerge [
    (mkIf config.services.tang.enable {
      assertions = [{
        assertion = config.services.tang.ipAddressAllow != [ ];
        message = "The option `services.tang.ipAddressAllow' was accessed but has no value defined. Try setting the option.";
      }];
    })
    (mkIf keepalived.enable {
      assertions = lib.mapAttrsToList
        (name: one: {
          assertion = one.interface != "";
          message = "services.keepalived.vrrpInstances.${name}.interface option cannot be empty.";
        })
        instances
      ++ [{
        # It says iptables' commands, which the nftables based firewall refuses (services/networking/firewall-nftables.nix).
        assertion = keepalived.openFirewall -> !config.networking.nftables.enable;
        message = "extraCommands is incompatible with the nftables based firewall";
      }];
    })
    (mkIf k3s.enable {
      assertions = [
        {
          assertion = k3s.role == "agent" -> k3s.serverAddr != "";
          message = "serverAddr or configPath (with 'server' key) should be set if role is 'agent'";
        }
        {
          assertion = k3s.role == "agent" -> k3s.tokenFile != null || k3s.token != "";
          message = "token or tokenFile or configPath (with 'token' or 'token-file' keys) should be set if role is 'agent'";
        }
      ];
    })
    (mkIf config.services.haproxy.enable {
      assertions = [{ assertion = config.services.haproxy.config != null; message = "You must provide services.haproxy.config."; }];
    })
    (mkIf (prometheus.exporters.node.enable && prometheus.exporters.node.openFirewall) {
      networking.firewall.allowedTCPPorts = [ prometheus.exporters.node.port ];
    })
  ];
}
