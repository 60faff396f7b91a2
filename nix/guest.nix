# What a guest on Proxmox VE needs, each part with a switch of its own. Everything is a default that a machine may override.
{ config, extendModules, lib, options, ... }:

let
  inherit (lib) mkDefault mkIf mkMerge mkOption mkOverride optional types;
  inherit (import ./options.nix { inherit lib; }) given;

  cfg = config.deployment.proxmox;
  guest = cfg.guest;
  isVm = cfg.kind == "vm";

  isOurs = if options.deployment ? targetEnv then config.deployment.targetEnv == "proxmox" else true;

  switch = default: defaultText: description: mkOption {
    type = types.bool;
    inherit default description;
    defaultText = lib.literalExpression defaultText;
  };

  slots = import ./slots.nix { inherit cfg lib; };
  inherit (slots) disks numberOf;

  # With what a NIC has taken from a list of MACs (`guest.taken`).
  nics = lib.mapAttrs
    (slot: nic:
      let
        taken = guest.taken.${slot} or { };
        fill = family: value:
          if builtins.isAttrs value && value.method or null == "static" && value.address or null == null && taken ? ${family}
          then value // { address = taken.${family}; }
          else value;
      in
      nic // {
        mac = if nic.mac != null then nic.mac else taken.mac or null;
        ipv4 = fill "ipv4" nic.ipv4;
        ipv6 = fill "ipv6" nic.ipv6;
      })
    slots.nics;

  byId = import ./disk-paths.nix { inherit lib; inherit (guest) serialsFrom; };

  firstDisk =
    let
      slots = builtins.sort (a: b: order a < order b) (builtins.attrNames disks);
      order = slot: (if lib.hasPrefix "virtio" slot then 100 else if lib.hasPrefix "sata" slot then 200 else 0)
        + numberOf (builtins.head (builtins.match "([a-z]+)[0-9]+" slot)) slot;
      slot = builtins.head slots;
    in
    if slots == [ ] then null
    else if byId disks.${slot} != null then byId disks.${slot}
    else if lib.hasPrefix "virtio" slot then "/dev/vda"
    else "/dev/sda";

  # Addresses, spelled out: method, and for a static one address with prefix.
  spell = other: value:
    let
      set = if builtins.isAttrs value then given value else { address = value; };
      text = set.address or null;
      static = text != null && !(lib.elem text [ "dhcp" "auto" "none" ]) && (set.method or "static") == "static";
    in
    {
      method = set.method or (if static then "static" else if text != null then text else other);
      address = if !static then null else if lib.hasInfix "/" text then text else "${text}/${toString set.prefix}";
      gateway = set.gateway or null;
    };
  ipv4 = nic: spell "dhcp" nic.ipv4;
  ipv6 = nic: spell "auto" nic.ipv6;

  # The address that is written, or taken from a list of MACs; null for one that only the network will tell.
  knownOf = slot: family: value:
    let
      text = (if builtins.isAttrs value then given value else { address = value; }).address or null;
      isWord = text == null || lib.elem text [ "dhcp" "auto" "none" ];
    in
    if isWord then guest.taken.${slot}.${family} or null else builtins.head (lib.splitString "/" text);

  isStatic = nic: (ipv4 nic).method == "static" || (ipv6 nic).method == "static";

  # By MAC where it is declared. Otherwise by place: PVE puts net0 to net5 at the PCI addresses 0x12 to 0x17, and systemd
  # names them ens18, enp0s18 or enp6s18.
  match = slot: nic:
    if nic.mac != null then { MACAddress = lib.toLower nic.mac; }
    else { Name = "en*s${toString (18 + numberOf "net" slot)}"; };

  linkOf = slot: nic: {
    matchConfig = match slot nic;
    networkConfig = {
      DHCP =
        let v4 = (ipv4 nic).method == "dhcp"; v6 = (ipv6 nic).method == "dhcp";
        in if v4 && v6 then "yes" else if v4 then "ipv4" else if v6 then "ipv6" else "no";
      IPv6AcceptRA = (ipv6 nic).method == "auto" || (ipv6 nic).method == "dhcp" || (ipv6 nic).gateway == null && (ipv6 nic).method == "static";
      LinkLocalAddressing = if (ipv6 nic).method == "none" then "no" else "ipv6";
    };
    address = builtins.filter (address: address != null) [ (ipv4 nic).address (ipv6 nic).address ];
    routes = map (gateway: { Gateway = gateway; GatewayOnLink = true; })
      (builtins.filter (gateway: gateway != null) [ (ipv4 nic).gateway (ipv6 nic).gateway ]);
    dns = nic.dns;
    domains = nic.search;
    linkConfig = lib.optionalAttrs (nic.mtu != null && nic.mtu > 1) { MTUBytes = toString nic.mtu; };
  };

  servers = lib.unique (lib.concatMap (nic: nic.dns) (builtins.attrValues nics));
  domains = lib.unique (lib.concatMap (nic: nic.search) (builtins.attrValues nics));

  # As NetworkManager names devices.
  unmanaged = slot: nic: if nic.mac != null then "mac:${lib.toLower nic.mac}" else "interface-name:${(match slot nic).Name}";

  keptDevices = builtins.filter (device: device != null)
    (lib.mapAttrsToList (slot: disk: if disk.keep then byId disk else null) disks);

  # What the machine's own modules say of `ssh.user`: NixOS's option itself depends on the one that we set. NixOS takes a
  # low number for a system user, too.
  own = extendModules {
    modules = [{ deployment.proxmox.guest = lib.genAttrs [ "bootLoader" "ssh" "sudo" ] (_: lib.mkForce false); }];
  };
  account = own.config.users.users.${cfg.ssh.user} or { isSystemUser = false; uid = null; };
  isSystemUser = account.isSystemUser || (account.uid != null && account.uid < 1000);

  written = builtins.fromJSON (builtins.readFile ./layouts.json);
  layout = written.layouts.${if cfg.install.layout == null then "ext4" else cfg.install.layout};

  hasDisko = options ? disko;
  usesDisko = hasDisko && config.disko.devices.disk != { };
  isKept = disk: lib.elem disk.device keptDevices;
  kept = builtins.filter isKept (builtins.attrValues config.disko.devices.disk);
  emptied = builtins.filter (disk: !(isKept disk)) (builtins.attrValues config.disko.devices.disk);
  # What disko would make on the disks to keep: parts of its script, word for word.
  made = builtins.filter (text: text != "") (map (disk: disk._create or "") kept);
in
{
  imports = [ ./boot-loader.nix ./container.nix ./disk-links.nix ./encryption.nix ./refusals.nix ];

  options.deployment.proxmox.guest = {
    hardware = switch isVm ''config.deployment.proxmox.kind == "vm"'' "Whether the initial RAM disk has the drivers that a VM on PVE needs.";
    agent = switch (cfg.agent && isVm) "config.deployment.proxmox.agent, of a VM" "Whether the QEMU guest agent runs.";
    ssh = switch true "true" "Whether sshd runs, without passwords, and accepts `ssh.authorizedKeys`.";
    sudo = switch (cfg.ssh.user != "root") ''config.deployment.proxmox.ssh.user != "root"''
      "Whether `ssh.user` is in the group `wheel`, may use sudo without a password, and may give systems to Nix. A deployment needs all three.";
    serialConsole = switch (cfg.serialPort && isVm) "config.deployment.proxmox.serialPort, of a VM" "Whether the system has a console on the serial port.";
    growPartition = switch false "false" "Whether the root partition and its file system grow to the disk's size at boot.";
    network = switch (isVm && lib.any isStatic (builtins.attrValues nics)) "whether a NIC of a VM has a static address"
      "Whether systemd-networkd gives each declared NIC its declared addresses.";
    layout = switch (isVm && cfg.install.partition == null && !usesDisko && cfg.install.from == "iso") "whether nothing else partitions the disks"
      "Whether to declare the file systems of `install.layout`: those of the root file system, which is labelled `nixos`, and a `/boot` labelled `ESP` (UEFI) or `boot`.";
    bootLoader = switch isVm ''config.deployment.proxmox.kind == "vm"'' "Whether to choose a boot loader for the firmware, if the machine chooses none: GRUB on `bootDevice` with SeaBIOS, systemd-boot with OVMF.";
    bootDevice = mkOption {
      type = types.nullOr types.str;
      default = firstDisk;
      defaultText = lib.literalExpression "the first disk";
      description = "The disk for GRUB with SeaBIOS, if the machine chooses no boot loader.";
    };
    devices = mkOption {
      type = types.attrsOf (types.nullOr types.str);
      readOnly = true;
      description = "The stable path of each disk, by slot, for `disko.devices` and `fileSystems`. It is null for a disk without a `serial` whose machine was made by somebody else, or where `serialsFrom` is not known.";
    };
    encrypted = mkOption {
      type = types.attrsOf types.str;
      readOnly = true;
      description = "What each disk with `encrypt` is when it is open, by slot, for `fileSystems`: `/dev/mapper/<slot>`.";
    };
    nics = mkOption {
      type = types.attrsOf types.raw;
      readOnly = true;
      internal = true;
      visible = false;
      description = "What the description says of each NIC's place and addresses, by slot: for other modules.";
    };
    taken = mkOption {
      type = types.attrsOf (types.attrsOf types.str);
      default = { };
      description = "What each NIC has taken from a list of MACs, by slot: `mac`, `ipv4` and `ipv6`. The command line and NixOps 2 set it. With NixOps 4, give it the output `taken` of the `vm`.";
    };
    serialsFrom = mkOption {
      type = types.nullOr types.str;
      default = null;
      example = "web/db";
      description = "What the serials of disks that declare none follow from, with their slots. The command line and NixOps 2 set it. In a flake's `nixosConfigurations`, write the names of the deployment and the machine. With NixOps 4, give it the output `serialsFrom` of the `vm`. Empty: the disks have none.";
    };
    volumes = mkOption {
      type = types.attrsOf types.str;
      default = { };
      description = "The stable path of each of the machine's volumes, by name, for `fileSystems`.";
    };
  };

  config = mkMerge ([
    {
      deployment.proxmox.guest = {
        devices = lib.mapAttrs (_: byId) disks;
        encrypted = builtins.listToAttrs
          (map (disk: { name = disk.slot; value = "/dev/mapper/${disk.slot}"; })
            (builtins.filter (disk: cfg.encryption != null && disk.encrypt) slots.dataDisks));
        nics = lib.mapAttrs
          (slot: nic: {
            inherit (nic) bridge tag network mac;
            path = "*pci-*:${(import ./addresses.nix { inherit lib; }).toHex (18 + numberOf "net" slot)}.0"; # as in `match`
            static4 = (ipv4 nic).address;
            static6 = (ipv6 nic).address;
            ipv4 = knownOf slot "ipv4" nic.ipv4;
            ipv6 = knownOf slot "ipv6" nic.ipv6;
          })
          nics;
      };
    }

    (mkIf (isOurs && guest.hardware) {
      boot.initrd.availableKernelModules = [
        "virtio_pci" "virtio_blk" "virtio_scsi" "virtio_net" "ahci" "ata_piix" "sd_mod" "sr_mod" "uhci_hcd" "ehci_pci" "xhci_pci"
      ];
    })

    (mkIf (isOurs && guest.agent) { services.qemuGuest.enable = mkDefault true; })

    (mkIf (isOurs && guest.ssh) {
      services.openssh = {
        enable = mkDefault true;
        ports = mkDefault [ cfg.ssh.port ];
        hostKeys = mkIf (cfg.ssh.hostKey != "/etc/ssh/ssh_host_ed25519_key") (mkDefault [{ type = "ed25519"; path = cfg.ssh.hostKey; }]);
        settings.PasswordAuthentication = mkDefault false;
        settings.KbdInteractiveAuthentication = mkDefault false;
      };
      users.users.${cfg.ssh.user}.openssh.authorizedKeys.keys = cfg.ssh.authorizedKeys;
    })

    (mkIf (isOurs && guest.ssh && cfg.ssh.user != "root") {
      # A user who is declared nowhere else; weaker than any declaration.
      users.users.${cfg.ssh.user}.isNormalUser = mkOverride 1200 (!isSystemUser);
    })

    (mkIf (isOurs && guest.sudo && cfg.ssh.user != "root") (
      let rules = lib.mkAfter [{ users = [ cfg.ssh.user ]; commands = [{ command = "ALL"; options = [ "NOPASSWD" ]; }]; }]; in {
        nix.settings.trusted-users = [ cfg.ssh.user ];
        # security.sudo.execWheelOnly keeps everybody else from sudo; and users.mutableUsers = false wants an administrator.
        users.users.${cfg.ssh.user}.extraGroups = [ "wheel" ];
        security = { sudo.extraRules = rules; } // lib.optionalAttrs (options.security ? sudo-rs) { sudo-rs.extraRules = rules; };
      }
    ))

    # The last console is the one that init talks to.
    (mkIf (isOurs && guest.serialConsole) { boot.kernelParams = [ "console=tty0" "console=ttyS0,115200n8" ]; })

    (mkIf (isOurs && guest.growPartition) {
      boot.growPartition = mkDefault true;
      fileSystems."/".autoResize = mkDefault true;
    })

    # Beside whatever else the system configures: networkd takes our NICs alone, whose units come first, and scripted
    # interfaces, NetworkManager and other units keep theirs. Stronger than what nixos-generate-config writes.
    (mkIf (isOurs && guest.network) {
      networking.useDHCP = mkOverride 900 false;
      networking.networkmanager.unmanaged = lib.mapAttrsToList unmanaged nics;
      networking.nameservers = mkIf (servers != [ ]) (mkDefault servers);
      networking.search = mkIf (domains != [ ]) (mkDefault domains);
      systemd.network.enable = mkDefault true;
      systemd.network.networks = lib.mapAttrs' (slot: nic: lib.nameValuePair "00-proxmox-${slot}" (linkOf slot nic)) nics;
    })

    (mkIf (isOurs && guest.layout) {
      fileSystems = lib.mapAttrs
        (_: system: { device = mkDefault (if cfg.encryption == null then system.device else if layout.lvm then "/dev/mapper/nixos-root" else "/dev/mapper/root"); fsType = mkDefault system.fsType; options = mkIf (system.options != [ ]) (mkDefault system.options); })
        layout.fileSystems
      // lib.optionalAttrs (cfg.bios == "ovmf") {
        "/boot" = { device = mkDefault "/dev/disk/by-label/ESP"; fsType = mkDefault "vfat"; };
      }
      // lib.optionalAttrs (cfg.bios != "ovmf" && (layout.apart || cfg.encryption != null)) {
        "/boot" = { device = mkDefault "/dev/disk/by-label/boot"; fsType = mkDefault "ext4"; };
      };
      boot.initrd = { kernelModules = layout.modules; }
        // lib.optionalAttrs (options.boot.initrd ? services) { services.lvm.enable = mkIf layout.lvm (mkDefault true); };
    })
  ] ++ optional hasDisko {
    # disko's devices win over a script. Its own way to wipe a disk runs a file of its own store path, which the installer
    # does not have, hence ours. A disk to keep is not wiped: disko leaves alone what is on it when it is first installed,
    # and a reinstall runs nothing of disko's that makes something on it. disko writes bash.
    deployment.proxmox.install.partition = mkIf usesDisko (lib.mkForce ''
      set -eu
      ${written.empty}
      empty ${lib.escapeShellArgs (map (disk: disk.device) emptied)}
      ${lib.optionalString (kept != [ ]) ''[ -n "$REINSTALL" ] || declared ${lib.escapeShellArgs (map (disk: disk.device) kept)}''}
      create=$(mktemp) again=$(mktemp) mount=$(mktemp)
      cat >"$create" <<'DISKO_SCRIPT'
      ${config.disko.devices._create}
      DISKO_SCRIPT
      ${lib.optionalString (kept != [ ]) ''
      cat >"$again" <<'DISKO_SCRIPT'
      ${builtins.replaceStrings made (map (_: "") made) config.disko.devices._create}
      DISKO_SCRIPT
      [ -z "$REINSTALL" ] || create=$again
      ''}
      cat >"$mount" <<'DISKO_SCRIPT'
      ${config.disko.devices._mount}
      DISKO_SCRIPT
      bash -eux "$create"
      bash -eux "$mount"
    '');
  });
}
