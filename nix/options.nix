# Every option below `deployment.proxmox`, as plain declarations: the NixOS module, the NixOps 4 provider and the option
# reference are made of them. A null means "leave alone": PVE's own default, or what an administrator set, stays.
#
# Python's specification (nixops_proxmox/spec) is the truth for names, types and defaults; a test compares the two.
{ lib }:

let
  inherit (lib) mkIf mkOption types;
  inherit (types) attrsOf bool either enum int ints listOf nullOr str submodule;

  # null: not set.
  optional = type: description: mkOption { type = nullOr type; default = null; inherit description; };
  optional' = type: example: description: optional type description // { inherit example; };

  # A name that the original plugin had.
  old = type: new: mkOption {
    type = nullOr type;
    default = null;
    visible = false;
    description = "Now called `${new}`.";
  };

  size = either ints.unsigned str;
  number = either int types.float;

  disk = { config, ... }: {
    options = {
      slot = optional' str "scsi1" "PVE's slot. Without one, a list's disks take the next free slots of their bus.";
      bus = optional (enum [ "scsi" "virtio" "sata" ]) "The bus of a disk without `slot`; `scsi` if not said.";
      storage = mkOption { type = str; example = "local-lvm"; description = "The storage that the disk is made on."; };
      size = mkOption { type = size; example = "32G"; description = "A number of GiB, or a size with K, M, G or T. A disk grows in place; it never shrinks."; };
      cache = optional (enum [ "none" "writethrough" "writeback" "unsafe" "directsync" ]) "The host's cache.";
      aio = optional (enum [ "native" "threads" "io_uring" ]) "How the host does its I/O.";
      discard = optional bool "Whether space that the guest frees is given back.";
      ssd = optional bool "Whether the guest sees an SSD (not with virtio).";
      iothread = optional bool "Whether the disk has a thread of its own (scsi and virtio); scsi wants the controller `virtio-scsi-single`.";
      serial = optional' str "data" "The serial number that the guest sees, up to 20 letters, digits and `_.-`. Without one, one is derived from the machine's UUID and the slot.";
      backup = optional bool "Whether backups include the disk.";
      keep = mkOption { type = bool; default = false; description = "Whether a reinstall leaves the disk unwritten."; };
      volume = old str "storage";
      enableSSDEmulation = old bool "ssd";
      enableDiscard = old bool "discard";
    };
    config = {
      storage = mkIf (config.volume != null) config.volume;
      ssd = mkIf (config.enableSSDEmulation != null) config.enableSSDEmulation;
      discard = mkIf (config.enableDiscard != null) config.enableDiscard;
    };
  };

  ip = { config, ... }: {
    options = {
      method = optional (enum [ "dhcp" "auto" "static" "none" ]) "How the address comes; `static` if there is one, else DHCP (IPv4) or `auto` (IPv6).";
      address = optional' str "10.0.0.2/24" "A static address, with its prefix or with `prefix` beside it.";
      prefix = optional (ints.between 0 128) "The length of the network's prefix.";
      gateway = optional' str "10.0.0.1" "The default gateway.";
      prefixLength = old (either int str) "prefix";
    };
    config.prefix = mkIf (config.prefixLength != null)
      (if builtins.isInt config.prefixLength then config.prefixLength else lib.toInt config.prefixLength);
  };

  nic = { config, ... }: {
    options = {
      slot = optional' str "net1" "PVE's slot. Without one, a list's NICs take the next free slots.";
      model = mkOption {
        type = enum [
          "virtio" "e1000" "e1000e" "rtl8139" "vmxnet3" "e1000-82540em" "e1000-82544gc" "e1000-82545em"
          "i82551" "i82557b" "i82559er" "ne2k_isa" "ne2k_pci" "pcnet"
        ];
        default = "virtio";
        description = "What the guest sees.";
      };
      bridge = mkOption { type = str; example = "vmbr0"; description = "The bridge or virtual network of the hypervisor."; };
      tag = optional' (ints.between 1 4094) 100 "The VLAN of the NIC.";
      trunks = mkOption { type = listOf (either int str); default = [ ]; example = [ 100 "200-210" ]; description = "VLANs that pass through to the guest."; };
      mac = optional' str "BC:24:11:00:00:01" "The MAC address. Without one, one is derived from the machine's UUID and the slot.";
      mtu = optional (ints.between 1 65520) "The MTU (virtio); 1 takes the bridge's.";
      queues = optional (ints.between 0 64) "Packet queues (virtio).";
      rate = optional number "The most that it may send and receive, in MB/s.";
      firewall = optional bool "Whether the hypervisor's firewall looks at the NIC.";
      ipv4 = mkOption {
        type = either str (submodule ip);
        default = "dhcp";
        example = { address = "10.0.0.2/24"; gateway = "10.0.0.1"; };
        description = "`dhcp`, `none`, an address with its prefix, or a set of:";
      };
      ipv6 = mkOption {
        type = either str (submodule ip);
        default = "auto";
        example = { address = "fd00::2/64"; gateway = "fe80::1"; };
        description = "`auto` (router advertisements), `dhcp`, `none`, an address with its prefix, or a set of:";
      };
      dns = mkOption { type = listOf str; default = [ ]; example = [ "10.0.0.1" ]; description = "Name servers, for addresses that are static; DHCP and router advertisements bring their own."; };
      search = mkOption { type = listOf str; default = [ ]; example = [ "example.org" ]; description = "Domains in which short names are looked up."; };
      ip.v4 = old (either str (submodule ip)) "ipv4";
      ip.v6 = old (either str (submodule ip)) "ipv6";
    };
    config = {
      ipv4 = mkIf (config.ip.v4 != null) (given config.ip.v4);
      ipv6 = mkIf (config.ip.v6 != null) (given config.ip.v6);
    };
  };

  # What was set in a set of options.
  given = value: if builtins.isAttrs value then lib.filterAttrs (name: inner: inner != null && name != "prefixLength") value else value;

  section = options: mkOption { type = submodule { inherit options; }; default = { }; description = ""; };

  # Options of the original plugin that are elsewhere now: their types, and where.
  renamed = {
    nbCpus = { type = int; to = [ "cpu" "sockets" ]; };
    nbCores = { type = int; to = [ "cpu" "cores" ]; };
    cpuType = { type = str; to = [ "cpu" "type" ]; };
    cpuLimit = { type = int; to = [ "cpu" "limit" ]; };
    cpuUnits = { type = int; to = [ "cpu" "units" ]; };
    startOnBoot = { type = bool; to = [ "onboot" ]; };
    protectVM = { type = bool; to = [ "protection" ]; };
    hotplugFeatures = { type = str; to = [ "hotplug" ]; };
    installISO = { type = str; to = [ "install" "iso" ]; };
    partitions = { type = types.lines; to = [ "install" "partition" ]; };
  };

in
{
  inherit given;

  options = {
    profile = mkOption { type = str; default = "default"; example = "production"; description = "The hypervisor: a profile of the operator's profile file, which has its address and credentials."; };
    serverUrl = optional' str "https://pve.example.org:8006" "The hypervisor's address. A profile that leads elsewhere is refused.";
    username = optional' str "deploy@pve" "The user at the hypervisor (`user@realm`, or without the realm). A profile that logs in as somebody else is refused.";
    tokenName = optional' str "nixops" "The name of the API token. A profile with another one is refused. Its secret is never an option.";
    node = optional' str "pve1" "The node. Without one: an online node that has the storages and bridges, and the most free memory.";
    vmid = optional' (ints.between 100 999999999) 142 "The VMID. Without one, a free one is taken.";
    disks = mkOption {
      type = either (listOf (submodule disk)) (attrsOf (submodule disk));
      default = [ ];
      example = { scsi0 = { storage = "local-lvm"; size = "32G"; }; };
      description = "The disks: a list, or a set by slot (which keeps its slots when one is taken out).";
    };
    network = mkOption {
      type = either (listOf (submodule nic)) (attrsOf (submodule nic));
      default = [ ];
      example = [{ bridge = "vmbr0"; }];
      description = "The NICs: a list, or a set by slot.";
    };
    cpu = section {
      type = optional' str "host" "The CPU that the guest sees.";
      sockets = optional (ints.between 1 256) "CPU sockets.";
      cores = optional (ints.between 1 512) "Cores of each socket.";
      limit = optional number "The most CPU time that it may use, in CPUs.";
      units = optional (ints.between 1 262144) "Its weight against other guests.";
      numa = optional bool "Whether the guest sees NUMA nodes.";
    } // { description = "Processors."; };
    memory = optional' size 2048 "A number of MiB, or a size with M, G or T.";
    balloon = optional size "The least memory that ballooning leaves, in MiB; 0 turns ballooning off.";
    bios = optional (enum [ "seabios" "ovmf" ]) "The firmware; an EFI disk implies `ovmf`.";
    efi = optional
      (submodule {
        options = {
          storage = mkOption { type = str; example = "local-lvm"; description = "The storage of the EFI disk."; };
          type = mkOption { type = enum [ "2m" "4m" ]; default = "4m"; description = "Its size, which is its format."; };
          secureBootKeys = mkOption { type = bool; default = false; description = "Whether Microsoft's and the distributions' Secure Boot keys are enrolled: unsigned systems do not boot then."; };
        };
      }) "The disk of the UEFI firmware's settings.";
    tpm = optional
      (submodule {
        options = {
          storage = mkOption { type = str; example = "local-lvm"; description = "The storage of the TPM's state."; };
          version = mkOption { type = enum [ "v1.2" "v2.0" ]; default = "v2.0"; description = "Its version, which cannot change later."; };
        };
      }) "A TPM.";
    machine = optional' str "q35" "The chipset.";
    arch = optional (enum [ "x86_64" "aarch64" ]) "The architecture, of the guest's system and of the VM. PVE lets only `root@pam` ask for another one than its own default, x86_64.";
    scsiController = optional (enum [ "lsi" "lsi53c810" "virtio-scsi-pci" "virtio-scsi-single" "megasas" "pvscsi" ]) "The controller of scsi disks.";
    display = optional' str "std" "The graphics card, or `none`, or a serial port (`serial0`).";
    serialPort = mkOption { type = bool; default = true; description = "Whether the VM has a serial port, for its console."; };
    agent = mkOption { type = bool; default = true; description = "Whether the VM has a channel to the QEMU guest agent in the guest."; };
    tags = mkOption { type = listOf str; default = [ ]; example = [ "web" ]; description = "Tags, shown in PVE's views."; };
    pool = optional' str "production" "The resource pool.";
    onboot = optional bool "Whether it starts with its node.";
    startup = optional' (either int str) "order=2,up=30" "The order of starting and stopping with the node.";
    protection = optional bool "Whether PVE refuses to remove it; we then do, too.";
    hotplug = optional' str "network,disk,usb" "What may be plugged while it runs.";
    description = optional types.lines "Notes, shown in PVE's views.";
    expertArgs = optional str "Arguments for QEMU itself. PVE lets only `root@pam` give them.";
    extra = mkOption {
      type = attrsOf (types.oneOf [ str int bool ]);
      default = { };
      example = { ostype = "l26"; };
      description = "PVE's own configuration keys that no option here has, as PVE writes them.";
    };
    install = section {
      from = mkOption { type = enum [ "iso" "image" "template" ]; default = "iso"; description = "The way to the first boot: the installer, a disk image, or a clone."; };
      iso = optional' str "local:iso/nixops-proxmox-installer.iso" "The installer's volume.";
      image = optional' str "local:import/nixos.qcow2" "The image that the first disk is made of.";
      template = optional' (either int str) 9000 "The VMID or name of the template.";
      fullClone = mkOption { type = bool; default = false; description = "Whether the clone is a full copy instead of a linked one."; };
      partition = optional types.lines "A shell script that partitions the disks in the installer and leaves the target mounted on `/mnt`. Exit status 100 asks for a reboot of the installer and another run.";
      method = mkOption { type = enum [ "closure" "configuration" ]; default = "closure"; description = "Whether the built system is installed, or a minimal configuration that a deployment then replaces."; };
      configuration = optional types.lines "With `configuration`: the configuration.nix to install.";
      generation = mkOption { type = ints.between 0 2147483648; default = 0; description = "Raise it to ask for a reinstall."; };
    } // { description = "How the system gets onto the machine."; };
    endpoint = section {
      families = mkOption { type = listOf (enum [ "ipv4" "ipv6" ]); default = [ "ipv6" "ipv4" ]; description = "Address families that may be used, the preferred one first."; };
      reaches = mkOption { type = listOf (enum [ "private" "public" ]); default = [ "private" "public" ]; description = "Kinds of addresses that may be used, the preferred one first."; };
      allow = mkOption { type = listOf str; default = [ ]; example = [ "10.0.0.0/8" ]; description = "If set: only addresses in these networks."; };
      deny = mkOption { type = listOf str; default = [ ]; description = "No addresses in these networks."; };
      denyInterfaces = mkOption { type = listOf str; default = [ ]; example = [ "wg*" "!tailscale0" ]; description = "Patterns of guest interfaces whose addresses are not used; `!` lets one in that is kept out otherwise."; };
      address = optional str "Only this address or name.";
      jump = optional' str "admin@gate.example.org" "The SSH jump host, as for OpenSSH's ProxyJump.";
    } // { description = "Which of the machine's addresses are used to reach it."; };
    ssh = section {
      user = mkOption { type = str; default = "root"; description = "The user to log in as."; };
      port = mkOption { type = ints.between 1 65535; default = 22; description = "The port of the machine's sshd."; };
      options = mkOption { type = attrsOf (types.oneOf [ str int bool ]); default = { }; example = { ConnectTimeout = 20; }; description = "Options for OpenSSH; not those that decide which host key is believed."; };
      identityFile = optional' str "/home/me/.ssh/deploy" "A private key, as a string, so that it stays out of the Nix store.";
      authorizedKeys = mkOption { type = listOf str; default = [ ]; description = "Public keys that may log in."; };
    } // { description = "The way in."; };
  };

  inherit renamed;

  renamedOptions = builtins.mapAttrs (_: new: old new.type (builtins.concatStringsSep "." new.to)) renamed;

  # Those that became something else, or nothing.
  replaced = {
    uefi = old
      (submodule {
        options = {
          enable = old bool "efi";
          volume = old str "efi.storage";
        };
      }) "efi";
    usePrivateIPAddress = old bool "endpoint.reaches";
    verifySSL = old bool "ca_file or fingerprint in the profile";
    useSSH = old bool "the profile";
  };

  # Options that only say where their value belongs instead.
  secrets = lib.genAttrs [ "password" "tokenValue" ] (name: mkOption {
    type = nullOr str;
    default = null;
    visible = false;
    description = "Refused: a secret in Nix is a secret in the store, which everybody can read.";
  });
}
