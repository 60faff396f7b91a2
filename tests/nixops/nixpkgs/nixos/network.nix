# Networks with the definitions, priorities and assertions of NixOS's.
{ config, lib, ... }:

let
  inherit (lib) mkDefault mkIf mkOption types;
  option = type: default: mkOption { inherit type default; };
  words = option (types.listOf types.str) [ ];
  open = option (types.attrsOf types.anything) { };
  ports = {
    allowedTCPPorts = option (types.listOf types.port) [ ];
    allowedTCPPortRanges = option (types.listOf types.raw) [ ];
    allowedUDPPorts = option (types.listOf types.port) [ ];
    allowedUDPPortRanges = option (types.listOf types.raw) [ ];
  };

  net = config.networking;
in
{
  options.networking = {
    firewall = ports // {
      enable = option types.bool true;
      trustedInterfaces = words;
      extraCommands = option types.lines "";
      extraInputRules = option types.lines "";
      interfaces = option (types.attrsOf (types.submodule { options = ports; })) { };
    };
    hostId = option (types.nullOr types.str) null;
    useDHCP = option types.bool true;
    useNetworkd = option types.bool false;
    usePredictableInterfaceNames = option types.bool true;
    nameservers = words;
    search = words;
    interfaces = open;
    defaultGateway = option (types.nullOr types.raw) null;
    networkmanager.enable = option types.bool false;
    networkmanager.unmanaged = words;
  };
  options.services.resolved.enable = option types.bool false;
  options.systemd.network = {
    enable = option types.bool false;
    networks = mkOption {
      default = { };
      type = types.attrsOf (types.submodule {
        options = lib.genAttrs [ "matchConfig" "networkConfig" "linkConfig" ] (_: open)
          // lib.genAttrs [ "address" "gateway" "dns" "domains" ] (_: words)
          // { routes = option (types.listOf types.attrs) [ ]; };
      });
    };
  };

  config = lib.mkMerge [
    (mkIf net.useNetworkd {
      systemd.network.enable = mkDefault true;
      assertions = [{
        assertion = net.defaultGateway == null || (builtins.isAttrs net.defaultGateway && net.defaultGateway.interface or null != null);
        message = "networking.defaultGateway.interface is not optional when using networkd.";
      }];
    })
    {
      networking.firewall.trustedInterfaces = [ "lo" ];
      networking.firewall.extraCommands = "ip46tables -w -t nat -F nixos-nat-pre"; # as services/networking/nat.nix does
    }
    (mkIf net.networkmanager.enable { networking.useDHCP = false; })
    (mkIf config.systemd.network.enable { services.resolved.enable = mkDefault true; })
  ];
}
