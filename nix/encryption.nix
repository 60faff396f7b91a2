# What opens the encrypted root disk in the first stage, and the data disks afterwards. The installer has made them and
# sealed the root's key (nixops_proxmox/kinds/machine/encrypted_layout.py): the names here are the names there.
{ config, lib, options, pkgs, ... }:

let
  inherit (lib) mkDefault mkIf mkMerge;

  cfg = config.deployment.proxmox;
  isOurs = if options.deployment ? targetEnv then config.deployment.targetEnv == "proxmox" else true;

  wanted = cfg.encryption;
  byTang = wanted.unlock.tang != [ ];
  byTpm = wanted.unlock.tpm2 != null;
  bySsh = wanted.unlock.ssh != null;
  sealed = byTang || byTpm;
  keys = "/etc/nixops-proxmox/encryption";
  extend = "${pkgs.tpm2-tools}/bin/tpm2_pcrextend";
  initrd = config.boot.initrd;
  bySystemd = initrd.systemd.enable;
  patience = if byTang then 12 else 2; # tries, five seconds apart, before the passphrase is asked for

  slots = import ./slots.nix { inherit cfg lib; };
  first = builtins.head (builtins.attrValues slots.disks);
  dataDisks = builtins.filter (disk: disk.encrypt) slots.dataDisks;

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

    (mkIf (dataDisks != [ ]) {
      # The running system opens them, with keys that the installer has put on the encrypted root. Nix never sees one.
      environment.etc.crypttab.text = lib.concatMapStrings
        (disk: "${disk.slot} /dev/disk/by-label/nixos-${disk.slot} /etc/nixops-proxmox/encryption/${disk.slot}.key luks,nofail${lib.optionalString (disk.discard == true) ",discard"}\n")
        dataDisks;
    })

    (mkIf sealed {
      boot.initrd.clevis = {
        enable = mkDefault true;
        useTang = mkDefault byTang;
        # Only the sealed key. It is read where the system is, when its boot loader is written, and not by Nix.
        devices.root.secretFile = mkDefault "/etc/nixops-proxmox/encryption/root.jwe";
      };
      # NixOS's own tries once, and a network may come up late.
      boot.initrd.systemd.services.cryptsetup-clevis-root = mkIf bySystemd {
        serviceConfig = { Restart = mkDefault "on-failure"; RestartSec = mkDefault 5; TimeoutStartSec = mkDefault 60; };
        unitConfig = { StartLimitBurst = mkDefault patience; StartLimitIntervalSec = mkDefault 600; };
      };
    })

    (mkIf bySsh {
      boot.initrd.network.ssh = {
        enable = mkDefault true;
        port = mkDefault wanted.unlock.ssh.port;
        # Its own, because it lies on the boot partition. Strings, so that Nix reads none of these files.
        hostKeys = mkDefault [ "${keys}/ssh_host_ed25519_key" ];
        # NixOS wants one. Who may log in stands in the file below, which takes the place of these.
        authorizedKeys = mkDefault (if cfg.ssh.authorizedKeys == [ ] then [ "# those of the deployment" ] else cfg.ssh.authorizedKeys);
      };
      boot.initrd.secrets."/etc/ssh/authorized_keys.d/root" = mkDefault "${keys}/authorized_keys";
      boot.initrd.systemd = mkIf bySystemd {
        contents."/etc/nixops-proxmox/reply-password".text = "${initrd.systemd.package}/lib/systemd/systemd-reply-password\n";
        storePaths = [ "${initrd.systemd.package}/lib/systemd/systemd-reply-password" ];
      };
      assertions = [{
        assertion = bySystemd;
        message = "deployment.proxmox.encryption.unlock.ssh needs systemd's first stage, which takes a passphrase from a program: set boot.initrd.systemd.enable = true";
      }];
    })

    (mkIf (byTang || bySsh) {
      boot.initrd.network.enable = mkDefault true;
      boot.initrd.systemd = mkIf bySystemd {
        network.enable = mkDefault true;
        network.networks = mkIf cfg.guest.network
          (lib.filterAttrs (name: _: lib.hasPrefix "00-proxmox-" name) config.systemd.network.networks);
      };
      assertions = map
        (one: {
          assertion = !bySystemd || isLiteral one.url;
          message = ''deployment.proxmox.encryption.unlock.tang: ${one.url} has a host name, and systemd's first stage has no DNS: write an address, such as "http://192.0.2.5:7500"'';
        })
        (builtins.filter (one: one.url != null) wanted.unlock.tang)
      ++ [{
        assertion = bySystemd || !cfg.guest.network
          || !lib.any isStatic (builtins.attrValues config.systemd.network.networks);
        message = "deployment.proxmox.encryption.unlock.${if byTang then "tang" else "ssh"} needs the static addresses of the NICs in the first stage, which only systemd's gives them: set boot.initrd.systemd.enable = true";
      }];
    })

    (mkIf byTpm {
      boot.initrd.availableKernelModules = [ "tpm_tis" "tpm_crb" ];
      assertions = [{
        assertion = bySystemd;
        message = "deployment.proxmox.encryption.unlock.tpm2 needs systemd's first stage, which locks the TPM once the disk is open: set boot.initrd.systemd.enable = true";
      }];
      # From here on, no system gets the key from the TPM: not one on a disk that somebody has put into the place of ours
      # either. systemd's own tpm2-measure-pcr does this only where a unified kernel image was booted.
      boot.initrd.systemd = mkIf bySystemd {
        storePaths = [ extend ];
        services.nixops-proxmox-lock-tpm = {
          description = "Extend PCR 15 of the TPM, because the root disk is open";
          unitConfig = { DefaultDependencies = false; ConditionPathExists = "/dev/tpmrm0"; };
          requires = [ "systemd-cryptsetup@root.service" ];
          after = [ "systemd-cryptsetup@root.service" ];
          before = [ "sysroot.mount" "initrd-switch-root.target" ];
          requiredBy = [ "sysroot.mount" ];
          environment.TPM2TOOLS_TCTI = "device:/dev/tpmrm0";
          serviceConfig = { Type = "oneshot"; RemainAfterExit = true; };
          script = "${extend} 15:sha256=${builtins.hashString "sha256" "nixops-proxmox: the root disk is open"}";
        };
      };
    })
  ]);
}
