# Our module beside what people's own configurations say of networks, users, SSH, sudo and file systems.
{ nixpkgs }:

let
  rig = import ./rig.nix { inherit nixpkgs; };
  inherit (rig) lib;

  mac = "BC:24:11:00:00:01";
  base = {
    deployment.proxmox = {
      disks.scsi0 = { storage = "local-lvm"; size = 8; };
      ssh.authorizedKeys = [ "ssh-ed25519 AAAA me" ];
    };
  };
  static = {
    deployment.proxmox.network.net0 = {
      bridge = "vmbr0";
      inherit mac;
      ipv4 = { address = "10.0.0.2/24"; gateway = "10.0.0.1"; };
      dns = [ "10.0.0.53" ];
    };
  };
  two = { deployment.proxmox.network.net1 = { bridge = "vmbr1"; }; };
  deploy = { deployment.proxmox.ssh.user = "deploy"; };
  ownSudo = { deployment.proxmox.guest.sudo = false; };
  rule = options: [{ users = [ "deploy" ]; commands = [{ command = "ALL"; inherit options; }]; }];
  sudo = options: { security.sudo.extraRules = rule options; };
  ssh = settings: { services.openssh.settings = settings; };
  wheel = { users.users.deploy = { isNormalUser = true; extraGroups = [ "wheel" ]; }; };
  tmpfs = { fileSystems."/" = { device = "none"; fsType = "tmpfs"; options = [ "mode=755" ]; }; };
  on = place: { fileSystems.${place} = { device = "/dev/disk/by-label/keep"; fsType = "ext4"; neededForBoot = true; }; };

  # As nixos-generate-config writes it.
  generated = { config, lib, modulesPath, ... }: {
    imports = [ (modulesPath + "/profiles/qemu-guest.nix") ];
    boot.initrd.availableKernelModules = [ "ata_piix" "uhci_hcd" "virtio_pci" "virtio_scsi" "sd_mod" "sr_mod" ];
    boot.initrd.kernelModules = [ ];
    boot.kernelModules = [ "kvm-intel" ];
    boot.extraModulePackages = [ ];
    fileSystems."/" = { device = "/dev/disk/by-uuid/00000000-0000-0000-0000-000000000001"; fsType = "ext4"; };
    swapDevices = [{ device = "/dev/disk/by-uuid/00000000-0000-0000-0000-000000000002"; }];
    networking.useDHCP = lib.mkDefault true;
    nixpkgs.hostPlatform = lib.mkDefault "x86_64-linux";
    hardware.cpu.intel.updateMicrocode = lib.mkDefault config.hardware.enableRedistributableFirmware;
  };

  machines = {
    generated = [ generated ];
    generatedStatic = [ generated static ];
    scripted = [
      static
      { networking = { interfaces.ens19.ipv4.addresses = [{ address = "10.9.0.2"; prefixLength = 24; }]; defaultGateway = "10.9.0.1"; }; }
    ];
    ownNetworkd = [
      static
      { systemd.network = { enable = true; networks."10-lan" = { matchConfig.Name = "en*"; networkConfig.DHCP = "yes"; }; }; }
      { networking.useDHCP = false; }
    ];
    useNetworkd = [ static two { networking.useNetworkd = true; } ];
    networkManager = [ static { networking.networkmanager.enable = true; } ];
    networkManagerDhcp = [ { networking.networkmanager.enable = true; } ];
    ownUsers = [ { users.users.me = { isNormalUser = true; extraGroups = [ "wheel" ]; openssh.authorizedKeys.keys = [ "k" ]; }; } ];
    immutableUsers = [ { users.mutableUsers = false; } ];
    etcKeysOnly = [ { services.openssh.authorizedKeysInHomedir = false; } ];
    homeKeysOnly = [ { services.openssh.authorizedKeysFiles = lib.mkForce [ "%h/.ssh/authorized_keys" ]; } ];
    noRootLogin = [ (ssh { PermitRootLogin = "no"; }) ];
    allowGroups = [ (ssh { AllowGroups = [ "admins" ]; }) ];
    otherPort = [ { services.openssh.ports = [ 2022 ]; } ];
    otherPortSaid = [ { services.openssh.ports = [ 2022 ]; deployment.proxmox.ssh.port = 2022; } ];
    closedFirewall = [ { services.openssh.openFirewall = false; } ];
    openedFirewall = [ { services.openssh.openFirewall = false; networking.firewall.allowedTCPPorts = [ 22 ]; } ];
    forgets = [ tmpfs (on "/nix") ];
    keyThatStays = [ tmpfs (on "/nix") (on "/persist") { deployment.proxmox.ssh.hostKey = "/persist/ssh/key"; } ];
    keyThatForgets = [ tmpfs (on "/nix") { deployment.proxmox.ssh.hostKey = "/var/ssh/key"; } ];
    otherKey = [ { services.openssh.hostKeys = [ { type = "ed25519"; path = "/var/ssh/key"; } ]; } ];
    otherKeySaid = [ { services.openssh.hostKeys = [ { type = "ed25519"; path = "/var/ssh/key"; } ]; deployment.proxmox.ssh.hostKey = "/var/ssh/key"; } ];
    forgetsAll = [ tmpfs (on "/etc/ssh") ];
    impermanent = [ tmpfs (on "/nix") (on "/etc/ssh") (on "/etc/nixops-proxmox") ];

    deploy = [ deploy ];
    deployHardened = [
      deploy
      (ssh { PermitRootLogin = "no"; AllowUsers = [ "deploy" ]; })
      { users.mutableUsers = false; security.sudo.execWheelOnly = true; services.openssh.authorizedKeysInHomedir = false; }
    ];
    deployDeclared = [ deploy { users.users.deploy = { isNormalUser = true; group = "users"; home = "/srv/deploy"; }; } ];
    deploySystem = [ deploy { users.users.deploy = { isSystemUser = true; group = "deploy"; useDefaultShell = true; }; users.groups.deploy = { }; } ];
    deployLowNumber = [ deploy { users.users.deploy = { uid = 900; group = "deploy"; useDefaultShell = true; }; users.groups.deploy = { }; } ];
    deploySudoRs = [ deploy { security.sudo.enable = false; security.sudo-rs.enable = true; } ];
    deployNoSudo = [ deploy { security.sudo.enable = false; } ];
    deployOwnSudo = [ deploy ownSudo (sudo [ "NOPASSWD" "SETENV" ]) ];
    deployWheel = [ deploy ownSudo wheel { security.sudo.wheelNeedsPassword = false; } ];
    deployMember = [ deploy ownSudo { security.sudo.wheelNeedsPassword = false; users.groups.wheel.members = [ "deploy" ]; } ];
    deployOwnWords = [ deploy ownSudo { security.sudo.extraConfig = "deploy ALL=(ALL) NOPASSWD: ALL"; } ];
    deployPassword = [ deploy ownSudo wheel ];
    deployNoRule = [ deploy ownSudo ];
    deployLaterPassword = [ deploy ownSudo (sudo [ "NOPASSWD" ]) { security.sudo.extraRules = lib.mkAfter (rule [ "PASSWD" ]); } ];
    deployNotInWheel = [ deploy ownSudo (sudo [ "NOPASSWD" ]) { security.sudo.execWheelOnly = true; } ];
  };
in
builtins.mapAttrs (_: more: removeAttrs (rig.told ([ base ] ++ more)) [ "exported" "efi" ]) machines
