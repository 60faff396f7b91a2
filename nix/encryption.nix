# What opens the encrypted root disk in the first stage. The installer has made the volume and sealed its key
# (nixops_proxmox/kinds/machine/encryption.py): the names here are the names there.
{ config, lib, options, pkgs, ... }:

let
  inherit (lib) mkDefault mkIf mkMerge;

  cfg = config.deployment.proxmox;
  isOurs = if options.deployment ? targetEnv then config.deployment.targetEnv == "proxmox" else true;

  wanted = cfg.encryption;
  sealed = wanted.unlock.tang != [ ];
  initrd = config.boot.initrd;
  bySystemd = initrd.systemd.enable;
  patience = 12; # tries of five seconds each, before the passphrase is asked for

  slots = import ./slots.nix { inherit cfg lib; };
  first = builtins.head (builtins.attrValues slots.disks);

  isLiteral = url:
    let host = builtins.match "https?://(\\[[0-9A-Fa-f:]+]|[0-9.]+)(:[0-9]+)?(/.*)?" url; in host != null;
  isStatic = network: network.address != [ ];
in
{
  config = mkIf (isOurs && wanted != null) (mkMerge [
    {
      # systemd's first stage asks at every console, as often as it takes.
      boot.initrd.systemd.enable = mkDefault true;
      # New keys are sealed where the system is. NixOS brings cryptsetup along, and clevis only into the first stage.
      environment.systemPackages = lib.optional (pkgs ? clevis) pkgs.clevis;
      boot.initrd.luks.devices.root = {
        device = mkDefault "/dev/disk/by-partlabel/nixos-luks";
        allowDiscards = mkDefault (first.discard == true);
        crypttabExtraOpts = mkIf bySystemd [ "tries=0" ];
      };
    }

    (mkIf sealed {
      boot.initrd.clevis = {
        enable = mkDefault true;
        useTang = mkDefault true;
        # Only the sealed key. It is read where the system is, when its boot loader is written, and not by Nix.
        devices.root.secretFile = mkDefault "/etc/nixops-proxmox/encryption/root.jwe";
      };
      boot.initrd.network.enable = mkDefault true;
      boot.initrd.systemd = mkIf bySystemd {
        network.enable = mkDefault true;
        network.networks = mkIf cfg.guest.network
          (lib.filterAttrs (name: _: lib.hasPrefix "00-proxmox-" name) config.systemd.network.networks);
        # NixOS's own asks tang once, and a network may come up late.
        services.cryptsetup-clevis-root = {
          serviceConfig = { Restart = mkDefault "on-failure"; RestartSec = mkDefault 5; TimeoutStartSec = mkDefault 60; };
          unitConfig = { StartLimitBurst = mkDefault patience; StartLimitIntervalSec = mkDefault 600; };
        };
      };
      assertions = map
        (one: {
          assertion = !bySystemd || isLiteral one.url;
          message = ''deployment.proxmox.encryption.unlock.tang: ${one.url} has a host name, and systemd's first stage has no DNS: write an address, such as "http://192.0.2.5:7500"'';
        })
        wanted.unlock.tang
      ++ [{
        assertion = bySystemd || !cfg.guest.network
          || !lib.any isStatic (builtins.attrValues config.systemd.network.networks);
        message = "deployment.proxmox.encryption.unlock.tang needs the static addresses of the NICs in the first stage, which only systemd's gives them: set boot.initrd.systemd.enable = true";
      }];
    })
  ]);
}
