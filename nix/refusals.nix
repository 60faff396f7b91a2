# What evaluates and could not boot, or would lock us out, is refused here with the option to change.
{ config, lib, options, ... }:

let
  inherit (lib) any elem filter hasPrefix mkIf optional;

  cfg = config.deployment.proxmox;
  guest = cfg.guest;
  isOurs = if options.deployment ? targetEnv then config.deployment.targetEnv == "proxmox" else true;

  refuse = because: message: { assertion = !because; inherit message; };

  # ---- firmware and loader ----

  loader = config.boot.loader;
  byUefi = cfg.bios == "ovmf";
  grubDevices = lib.concatMap (boot: boot.devices) loader.grub.mirroredBoots;
  secureBoot = cfg.efi != null && cfg.efi.secureBootKeys;
  iso = if cfg.install.from == "iso" && cfg.install.iso != null then baseNameOf cfg.install.iso else "";
  ourIso = hasPrefix "nixops-proxmox-installer" iso;

  booting = [
    (refuse (!byUefi && loader.systemd-boot.enable)
      ''boot.loader.systemd-boot needs UEFI, and the VM's firmware is SeaBIOS: set deployment.proxmox.bios = "ovmf" and deployment.proxmox.efi.storage, or use boot.loader.grub'')
    (refuse (!byUefi && loader.grub.enable && grubDevices != [ ] && lib.all (device: device == "nodev") grubDevices)
      ''boot.loader.grub is installed on no disk ("nodev"), and the VM's firmware is SeaBIOS: set boot.loader.grub.device to a disk, or deployment.proxmox.bios = "ovmf"'')
    (refuse (byUefi && loader.grub.enable && !loader.grub.efiSupport)
      ''boot.loader.grub.efiSupport is off, and the VM's firmware is UEFI: switch it on, or set deployment.proxmox.bios = "seabios"'')
    (refuse (secureBoot && (loader.systemd-boot.enable || loader.grub.enable))
      "deployment.proxmox.efi.secureBootKeys makes the firmware refuse unsigned loaders, and neither boot.loader.systemd-boot nor boot.loader.grub is signed: use one that is (lanzaboote), or set secureBootKeys = false")
    (refuse (secureBoot && ourIso)
      "deployment.proxmox.efi.secureBootKeys makes the firmware refuse the installer ${cfg.install.iso}, which is not signed: set install.iso to a signed installer, or secureBootKeys = false")
  ];

  # ---- file systems that the installer must know ----

  # installer-name.nix names the ISO by what it has: nixops-proxmox-installer-zfs.iso. Under another name it is the user's
  # own, and we do not know what it has.
  named = builtins.match "nixops-proxmox-installer((-[a-z0-9]+)*)[.]iso" iso;
  more = if named == null then [ ] else filter (kind: builtins.isString kind && kind != "") (builtins.split "-" (builtins.head named));

  # What nix/installer-iso.nix has, and what needs no driver of a disk's file system.
  known = [ "auto" "btrfs" "ext2" "ext3" "ext4" "vfat" "xfs" ]
    ++ [ "tmpfs" "ramfs" "none" "overlay" "nfs" "nfs4" "cifs" "9p" "virtiofs" "fuse" "proc" "sysfs" "devtmpfs" "devpts" "bindfs" ]
    ++ more;
  strange = lib.filterAttrs
    (_: system: !(elem system.fsType known) && !(hasPrefix "fuse." system.fsType) && !(elem "bind" system.options) && !(elem "noauto" system.options))
    config.fileSystems;
  remedy = kind:
    "build one that can (${if kind == "zfs" && more == [ ] then "nix build .#installer-iso-zfs" else "nixosModules.installer with installer.fileSystems = [ ${lib.concatMapStringsSep " " (one: "\"${one}\"") (more ++ [ kind ])} ]"}), upload it, and name it in install.iso: STORAGE:iso/${lib.concatStringsSep "-" ([ "nixops-proxmox-installer" ] ++ more ++ [ kind ])}.iso";
  formats = lib.mapAttrsToList
    (place: system: refuse true
      ''fileSystems."${place}" is ${system.fsType}, which the installer ${cfg.install.iso} cannot make: ${remedy system.fsType}'')
    (if named != null then strange else { });

  # disko and a script end up in the same option: the script that the installer runs.
  laidOut = [
    (refuse (cfg.install.layout != null && cfg.install.partition != null)
      "deployment.proxmox.install.layout has no meaning with ${if options ? disko && config.disko.devices.disk != { } then "disko.devices" else "install.partition"}, which lays out the disks: give one of them")
  ];

  # ---- the way in ----

  sshd = config.services.openssh;
  user = cfg.ssh.user;
  setting = name: sshd.settings.${name} or null;
  words = value: if builtins.isList value then value else filter builtins.isString (builtins.split "[ ,]+" (toString value));
  port = toString cfg.ssh.port;

  opens = firewall: elem cfg.ssh.port (firewall.allowedTCPPorts or [ ])
    || any (range: range.from <= cfg.ssh.port && cfg.ssh.port <= range.to) (firewall.allowedTCPPortRanges or [ ]);
  firewall = config.networking.firewall;
  # Rules in words of their own are for the user to judge; NixOS's own modules write there, too, and trust "lo".
  ownRules = any (word: lib.hasInfix word (firewall.extraCommands or "")) [ "nixos-fw" "INPUT" ]
    || (firewall.extraInputRules or "") != ""
    || lib.subtractLists [ "lo" ] (firewall.trustedInterfaces or [ ]) != [ ];
  closed = (firewall.enable or false) && !(sshd.openFirewall or true) && !opens firewall
    && !any opens (builtins.attrValues (firewall.interfaces or { })) && !ownRules;

  # ---- sudo without a password ----

  account = config.users.users.${user};
  groups = [ (account.group or "") ] ++ account.extraGroups or [ ]
    ++ builtins.attrNames (lib.filterAttrs (_: group: elem user (group.members or [ ])) (config.users.groups or { }));
  sudos = filter (sudo: sudo.enable or false) [ config.security.sudo (config.security.sudo-rs or { }) ];
  # The last rule that is about everything decides, as sudo reads them.
  isAll = command: command == "ALL" || (command.command or "") == "ALL";
  about = rule: any (one: elem one [ user "ALL" ]) (rule.users or [ ]) || any (group: elem group groups) (rule.groups or [ ]);
  commands = sudo: filter isAll (lib.concatMap (rule: rule.commands or [ ]) (filter about (sudo.extraRules or [ ])));
  freely = sudo:
    let found = commands sudo; in
    found != [ ] && elem "NOPASSWD" ((lib.last found).options or [ ]);
  # What is written in sudo's own words is for the user to judge; NixOS's own modules write there, too.
  ownWords = sudo: any (word: lib.hasInfix word (sudo.extraConfig or "")) [ "NOPASSWD" "!authenticate" ];
  bySudo = sudo: (freely sudo || ownWords sudo || elem "NOPASSWD" (sudo.defaultOptions or [ ]))
    && (elem "wheel" groups || !(sudo.execWheelOnly or false));

  wayIn = [
    (refuse (!sshd.enable)
      "services.openssh.enable is off, and machines are deployed by SSH: switch it on, or set deployment.proxmox.guest.ssh = false if another module runs an sshd")
    (refuse (user != "root" && !(config.security.sudo.enable or true) && !(config.security.sudo-rs.enable or false) )
      ''security.sudo.enable is off, and ${user}, whom deployment.proxmox.ssh.user names, needs it to activate systems: switch it on, or set deployment.proxmox.ssh.user = "root"'')
    (refuse (user != "root" && sudos != [ ] && !any bySudo sudos)
      ''${user}, whom deployment.proxmox.ssh.user names, may not use sudo without a password, and a deployment cannot type one: set deployment.proxmox.guest.sudo = true, or give ${user} a rule with NOPASSWD in security.sudo.extraRules'')
  ] ++ lib.optionals sshd.enable [
    (refuse (!(elem cfg.ssh.port sshd.ports))
      "deployment.proxmox.ssh.port is ${port}, and sshd listens on ${lib.concatMapStringsSep ", " toString sshd.ports} (services.openssh.ports): make them agree")
    (refuse (user == "root" && elem (setting "PermitRootLogin") [ "no" "forced-commands-only" ])
      ''services.openssh.settings.PermitRootLogin = "${toString (setting "PermitRootLogin")}" keeps out root, whom deployment.proxmox.ssh.user names: set it to "prohibit-password", or set deployment.proxmox.ssh.user to a user who may use sudo'')
    (refuse (setting "AllowUsers" != null && !(elem user (words (setting "AllowUsers"))))
      "services.openssh.settings.AllowUsers keeps out ${user}, whom deployment.proxmox.ssh.user names: add ${user}")
    (refuse (setting "DenyUsers" != null && elem user (words (setting "DenyUsers")))
      "services.openssh.settings.DenyUsers keeps out ${user}, whom deployment.proxmox.ssh.user names: take ${user} away")
    (refuse (setting "AllowGroups" != null && !any (group: elem group groups) (words (setting "AllowGroups")))
      "services.openssh.settings.AllowGroups keeps out ${user}, whom deployment.proxmox.ssh.user names: add a group of ${user}")
    (refuse (setting "DenyGroups" != null && any (group: elem group groups) (words (setting "DenyGroups")))
      "services.openssh.settings.DenyGroups keeps out ${user}, whom deployment.proxmox.ssh.user names: take the groups of ${user} away")
    (refuse (!any (hasPrefix "/etc/ssh/authorized_keys.d/") (sshd.authorizedKeysFiles or [ "/etc/ssh/authorized_keys.d/%u" ])
      && (sshd.authorizedKeysCommand or "none") == "none")
      "services.openssh.authorizedKeysFiles has no \"/etc/ssh/authorized_keys.d/%u\", where NixOS keeps the keys of deployment.proxmox.ssh.authorizedKeys: add it")
    (refuse (elem (setting "PubkeyAuthentication") [ false "no" ])
      "services.openssh.settings.PubkeyAuthentication is off, and keys are the only way in that we use: switch it on")
    (refuse (!any (key: key.path == cfg.ssh.hostKey) (sshd.hostKeys or [ { path = cfg.ssh.hostKey; } ]))
      "services.openssh.hostKeys has no ${cfg.ssh.hostKey}, where deployment.proxmox.ssh.hostKey says that the machine's host key is: add it, or take services.openssh.hostKeys away")
    (refuse closed
      "networking.firewall is closed for port ${port}, which deployment.proxmox.ssh.port names: add it to networking.firewall.allowedTCPPorts, or set services.openssh.openFirewall = true")
  ];

  # ---- a root that forgets ----

  # The file system that holds a path: the longest mount point above it.
  holder = path:
    let above = filter (place: place == "/" || place == path || hasPrefix "${place}/" path) (builtins.attrNames config.fileSystems);
    in if above == [ ] then null else config.fileSystems.${lib.last (builtins.sort (a: b: builtins.stringLength a < builtins.stringLength b) above)};
  forgets = path: let found = holder path; in found != null && elem found.fsType [ "tmpfs" "ramfs" ];
  # impermanence keeps single files by other means than file systems.
  persists = options ? environment && options.environment ? persistence;
  kept = [
    (refuse (sshd.enable && !persists && forgets cfg.ssh.hostKey)
      ''fileSystems."/" is a ${(holder "/").fsType}, so the machine's host key (${cfg.ssh.hostKey}) and its identity (/etc/nixops-proxmox) would be lost at every boot, and it would not be believed again: mount /etc/ssh and /etc/nixops-proxmox from a file system that stays, or set deployment.proxmox.ssh.hostKey to a file on one'')
    (refuse (!persists && forgets "/nix/store")
      ''fileSystems."/nix" is missing, and fileSystems."/" is a ${(holder "/").fsType}: the system would be lost at the first boot'')
  ];

  # ---- networks ----

  inherit (import ./slots.nix { inherit cfg lib; }) nics numberOf;
  all = builtins.attrValues nics;
  dynamic = [ "none" "dhcp" "auto" ];
  method = ip:
    let address = if builtins.isAttrs ip then ip.address else ip; in
    if builtins.isAttrs ip && ip.method != null then ip.method
    else if address == null || elem address dynamic then address
    else "static";
  is = word: nic: method nic.ipv4 == word || method nic.ipv6 == word;
  silent = filter (nic: method nic.ipv4 == "none" && method nic.ipv6 == "none") all;
  allStatic = lib.all (nic: elem (method nic.ipv4) [ "static" "none" ] && elem (method nic.ipv6) [ "static" "none" ]) all;

  placed = lib.mapAttrsToList
    (slot: nic: refuse (nic.mac == null && numberOf "net" slot > 5)
      "deployment.proxmox.network: ${slot} needs a mac, for only net0 to net5 can be told by their place")
    nics
  ++ [
    (refuse (!(config.networking.usePredictableInterfaceNames or true) && any (nic: nic.mac == null) all)
      "networking.usePredictableInterfaceNames is off, so a NIC cannot be told by its place: set deployment.proxmox.network.<slot>.mac, or leave the names predictable")
  ];
in
{
  config = mkIf isOurs {
    assertions = booting ++ laidOut ++ formats
      ++ lib.optionals guest.ssh (wayIn ++ kept)
      ++ lib.optionals guest.network placed;
    warnings =
      optional (silent != [ ]) "deployment.proxmox.network: a NIC has neither IPv4 nor IPv6 (ipv4 and ipv6 are \"none\"): the machine is not reached by it"
      ++ optional (guest.network && allStatic && any (is "static") all && config.networking.nameservers == [ ])
        "deployment.proxmox.network: every address is static, and no name server is known: set network.<slot>.dns, or networking.nameservers";
  };
}
