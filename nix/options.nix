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

  layouts = enum (builtins.attrNames (builtins.fromJSON (builtins.readFile ./layouts.json)).layouts);
  layoutName = layouts // {
    check = name:
      if name == "luks" then
        throw ''deployment.proxmox.install.layout = "luks": LUKS is not a layout but lies below one: set deployment.proxmox.encryption, and the layout of the file systems here''
      else layouts.check name;
  };

  size = either ints.unsigned str;
  number = either int types.float;

  disk = { config, ... }: {
    options = {
      slot = optional' str "scsi1" "The slot in PVE. Without it, the disks of a list take the next free slots of their bus.";
      bus = optional (enum [ "scsi" "virtio" "sata" ]) "The bus of a disk without `slot`. The default is `scsi`.";
      storage = mkOption { type = str; example = "local-lvm"; description = "The storage for the disk. If you change it, a deploy moves the disk there, live if the machine runs."; };
      size = mkOption { type = size; example = "32G"; description = "The size: a number of GiB, or a number with K, M, G or T. Raise it to grow the disk in place. A disk never shrinks."; };
      cache = optional (enum [ "none" "writethrough" "writeback" "unsafe" "directsync" ]) "The cache mode on the host.";
      aio = optional (enum [ "native" "threads" "io_uring" ]) "The host's method of asynchronous I/O.";
      discard = optional bool "Whether the storage gets back the space that the guest frees.";
      ssd = optional bool "Whether the guest sees an SSD (not with virtio).";
      iothread = optional bool "Whether the disk has its own I/O thread (scsi and virtio). With scsi, it needs the controller `virtio-scsi-single`.";
      serial = optional' str "data" "The serial number that the guest sees: up to 20 letters, digits and `_.-`. Without it, we derive one: see `guest.devices`.";
      backup = optional bool "Whether backups include the disk.";
      grow = optional bool "Whether a raised `size` also grows the last partition in the running guest, with LUKS, LVM and the file system on it. The default is true, and false for a disk with `keep`.";
      keep = mkOption { type = bool; default = false; description = "Whether a reinstall keeps the data on the disk."; };
      encrypt = mkOption { type = bool; default = false; description = "Whether the whole disk is LUKS2, if the machine has `encryption`. The system opens it as `guest.encrypted.<slot>`, with a key on the encrypted root. The first disk is encrypted anyway."; };
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

  mount = {
    options = {
      slot = optional' str "mp1" "The slot in PVE. Without it, the mount points of a list take the next free slots.";
      path = mkOption { type = str; example = "/var/lib/data"; description = "Where it is in the container."; };
      storage = mkOption { type = str; example = "local-lvm"; description = "The storage for the volume."; };
      size = mkOption { type = size; example = "20G"; description = "The size: a number of GiB, or a number with K, M, G or T. Raise it to grow the volume. It never shrinks."; };
      backup = optional bool "Whether backups include the volume.";
      readOnly = optional bool "Whether the container can only read it.";
      keep = mkOption { type = bool; default = false; description = "Whether `reinstall` must not take it away. `reinstall` is refused then. A volume of `resources.volumes` is kept without that."; };
    };
  };

  ip = { config, ... }: {
    options = {
      method = optional (enum [ "dhcp" "auto" "static" "none" ]) "How the NIC gets its address. The default is `static` if you set `address`. Otherwise it is `dhcp` for IPv4 and `auto` for IPv6.";
      address = optional' str "10.0.0.2/24" "A static address. Write the prefix length behind it, or set `prefix`. With the method `dhcp`: the address that the DHCP server gives, without a prefix. With `pool` and the method `static`, leave it out, and it comes from the list.";
      prefix = optional (ints.between 0 128) "The prefix length of the network.";
      gateway = optional' str "10.0.0.1" "The default gateway.";
      prefixLength = old (either int str) "prefix";
    };
    config.prefix = mkIf (config.prefixLength != null)
      (if builtins.isInt config.prefixLength then config.prefixLength else lib.toInt config.prefixLength);
  };

  nic = { config, ... }: {
    options = {
      slot = optional' str "net1" "The slot in PVE. Without it, the NICs of a list take the next free slots.";
      model = mkOption {
        type = enum [
          "virtio" "e1000" "e1000e" "rtl8139" "vmxnet3" "e1000-82540em" "e1000-82544gc" "e1000-82545em"
          "i82551" "i82557b" "i82559er" "ne2k_isa" "ne2k_pci" "pcnet"
        ];
        default = "virtio";
        description = "The model of the NIC that the guest sees.";
      };
      bridge = mkOption { type = nullOr str; default = null; example = "vmbr0"; description = "The bridge or virtual network of the hypervisor. Needed, unless `network` is set."; };
      network = optional str "One of `resources.networks`, instead of `bridge` and `tag`.";
      tag = optional' (ints.between 1 4094) 100 "The VLAN of the NIC.";
      trunks = mkOption { type = listOf (either int str); default = [ ]; example = [ 100 "200-210" ]; description = "VLANs that pass through to the guest."; };
      mac = optional' str "BC:24:11:00:00:01" "The MAC address. Without it, we derive one from the machine's UUID and the slot.";
      pool = optional' str "campus" "The list of `resources.macPools` from which the NIC takes its MAC, its addresses and the machine's host name.";
      macScheme = optional' str "mgmt" "The scheme of `resources.macSchemes` that the MAC follows from.";
      macRole = optional' str "web" "The role in the scheme.";
      macNumber = optional' (ints.between 0 1099511627775) 7 "The number in the scheme. Without it, the MAC follows from the machine's name.";
      mtu = optional (ints.between 1 65520) "The MTU (virtio). 1 means the MTU of the bridge.";
      queues = optional (ints.between 0 64) "The number of packet queues (virtio).";
      rate = optional number "The limit for sending and receiving, in MB/s.";
      firewall = optional bool "Whether the hypervisor's firewall filters the NIC's packets.";
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
      dns = mkOption { type = listOf str; default = [ ]; example = [ "10.0.0.1" ]; description = "Name servers, for static addresses. DHCP and router advertisements bring their own."; };
      search = mkOption { type = listOf str; default = [ ]; example = [ "example.org" ]; description = "Domains in which the guest looks up short names."; };
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
    kind = mkOption { type = enum [ "vm" "container" ]; default = "vm"; description = "Whether the machine is a VM or an LXC container. A machine cannot change from one to the other. See `docs/containers.md`."; };
    profile = mkOption { type = str; default = "default"; example = "production"; description = "The hypervisor: the name of a profile in the operator's profile file, which has its address and credentials."; };
    serverUrl = optional' str "https://pve.example.org:8006" "The hypervisor's address. If the profile has another address, we refuse it.";
    username = optional' str "deploy@pve" "The user on the hypervisor (`user@realm`, or without the realm). If the profile logs in as another user, we refuse it.";
    tokenName = optional' str "nixops" "The name of the API token. If the profile has another token, we refuse it. The token's secret is never an option.";
    node = optional' str "pve1" "The node. Without it, we choose one that has what the machine needs, by free memory first, then by free storage and idle processors.";
    placement = section {
      nodes = mkOption { type = listOf str; default = [ ]; example = [ "pve1" "pve2" ]; description = "If not empty, we choose only among these nodes."; };
      spread = optional' str "web" "The name of a group. We create its machines on different nodes.";
      together = optional' str "shop" "The name of a group. We create its machines on the same node.";
      strict = mkOption { type = bool; default = false; description = "Whether `spread` and `together` are conditions. If a condition does not hold, we create nothing. Otherwise they are wishes, and the plan says which machines do not get theirs."; };
    } // { description = "Where we create the machine. A machine that exists stays where it is."; };
    vmid = optional' (ints.between 100 999999999) 142 "The VMID. Without it, we take a free one.";
    disks = mkOption {
      type = either (listOf (submodule disk)) (attrsOf (submodule disk));
      default = [ ];
      example = { scsi0 = { storage = "local-lvm"; size = "32G"; }; };
      description = "The disks: a list, or a set by slot. In a set, the other disks keep their slots when you remove one.";
    };
    network = mkOption {
      type = either (listOf (submodule nic)) (attrsOf (submodule nic));
      default = [ ];
      example = [{ bridge = "vmbr0"; }];
      description = "The NICs: a list, or a set by slot.";
    };
    volumes = mkOption {
      type = listOf str;
      default = [ ];
      example = [ "db-data" ];
      description = "The volumes of `resources.volumes` that the machine has attached. They outlive the machine: we park them before its VM is destroyed or installed again.";
    };
    firewall = optional' (attrsOf types.anything) { rules = [{ macro = "SSH"; from = [ "192.0.2.0/24" ]; }]; } "The machine's firewall in PVE: `rules`, `policyIn` and more, see `docs/firewall.md`.";
    ha = optional' (attrsOf types.anything) { maxRestart = 2; affinity = true; } "What PVE's HA does with the machine: `state`, `maxRestart`, `maxRelocate`, `failback`, `affinity` and `comment`, see `docs/ha.md`. An empty set makes HA start it elsewhere when its node fails.";
    cpu = section {
      type = optional' str "host" "The CPU that the guest sees.";
      sockets = optional (ints.between 1 256) "The number of CPU sockets.";
      cores = optional (ints.between 1 512) "The number of cores in each socket.";
      limit = optional number "The limit for CPU time, in CPUs.";
      units = optional (ints.between 1 262144) "The VM's share of CPU time, relative to other guests.";
      numa = optional bool "Whether the guest sees NUMA nodes.";
    } // { description = "Processors."; };
    memory = optional' size 2048 "The memory: a number of MiB, or a number with M, G or T.";
    balloon = optional size "The memory that ballooning leaves at least, in MiB. 0 turns ballooning off.";
    bios = optional (enum [ "seabios" "ovmf" ]) "The firmware. If the VM has an EFI disk, it is `ovmf`.";
    efi = optional
      (submodule {
        options = {
          storage = mkOption { type = str; example = "local-lvm"; description = "The storage of the EFI disk."; };
          type = mkOption { type = enum [ "2m" "4m" ]; default = "4m"; description = "The size of the EFI disk, which also decides its format."; };
          secureBootKeys = mkOption { type = bool; default = false; description = "Whether to enroll the Secure Boot keys of Microsoft and the distributions. With them, unsigned systems do not boot."; };
        };
      }) "The disk for the settings of the UEFI firmware.";
    tpm = optional
      (submodule {
        options = {
          storage = mkOption { type = str; example = "local-lvm"; description = "The storage of the TPM's state."; };
          version = mkOption { type = enum [ "v1.2" "v2.0" ]; default = "v2.0"; description = "The version of the TPM. You cannot change it later."; };
        };
      }) "A TPM.";
    machine = optional' str "q35" "The chipset.";
    arch = optional (enum [ "x86_64" "aarch64" ]) "The architecture of the guest's system and of the VM. If there is a choice of nodes, we take only those that have it, unless `extra.kvm` is false. In PVE, only `root@pam` may set another one than the default, x86_64.";
    scsiController = optional (enum [ "lsi" "lsi53c810" "virtio-scsi-pci" "virtio-scsi-single" "megasas" "pvscsi" ]) "The controller of scsi disks.";
    display = optional' str "std" "The graphics card, `none`, or a serial port (`serial0`).";
    serialPort = mkOption { type = bool; default = true; description = "Whether the VM has a serial port, for its console."; };
    agent = mkOption { type = bool; default = true; description = "Whether the VM has a channel to the QEMU guest agent in the guest."; };
    tags = mkOption { type = listOf str; default = [ ]; example = [ "web" ]; description = "Tags, shown in PVE's views."; };
    pool = optional' str "production" "The resource pool.";
    onboot = optional bool "Whether the VM starts when its node starts.";
    startup = optional' (either int str) "order=2,up=30" "When the VM starts and stops with its node, relative to other VMs.";
    protection = optional bool "Whether PVE refuses to remove the VM. If it does, we refuse too.";
    hotplug = optional' str "network,disk,usb" "What you can plug in while the VM runs.";
    description = optional types.lines "Notes, shown in PVE's views.";
    expertArgs = optional str "Arguments for QEMU itself. In PVE, only `root@pam` may set them.";
    extra = mkOption {
      type = attrsOf (types.oneOf [ str int bool ]);
      default = { };
      example = { ostype = "l26"; };
      description = "PVE's own configuration keys, for settings that have no option here. Write them as PVE does.";
    };
    ignore = mkOption {
      type = listOf str;
      default = [ ];
      example = [ "memory" "net1" ];
      description = "PVE's configuration keys that we leave alone once the VM exists, whatever the description says of them. `check` and `plan` do not show them.";
    };
    install = section {
      from = mkOption { type = enum [ "iso" "image" "template" "backup" ]; default = "iso"; description = "What the machine boots first: the installer (`iso`), a disk image, a clone of a template, or what is in a backup."; };
      iso = optional' str "local:iso/nixops-proxmox-installer.iso" "The volume of the installer's ISO.";
      image = optional' (either str types.path) "local:import/nixos.qcow2" "The image from which we create the first disk: a volume of a storage, a file here, or a package that builds one. A file is uploaded once for each storage. `node:/PATH` is a file of the node, which PVE takes from root@pam alone.";
      imageStorage = optional' str "local" "The storage for an image that we upload. Without it, one that takes images.";
      template = optional' (either int str) 9000 "The VMID or name of the template.";
      backup = optional' str "local:backup/vzdump-qemu-nixos.vma.zst" "The volume of a backup from which we create the machine: an archive of vzdump, or one on a Proxmox Backup Server.";
      fullClone = mkOption { type = bool; default = false; description = "Whether to create a full clone instead of a linked one."; };
      identity = mkOption { type = enum [ "agent" "cloud-init" ]; default = "agent"; description = "How a system from an image, a template or a backup learns who it is: through its guest agent, or by a CD that its cloud-init reads at the first boot."; };
      identityStorage = optional' str "local" "The storage for that CD. Without it, one that takes ISO files.";
      cloudInit = optional
        (submodule {
          options = {
            user = optional' str "fedora" "The user that cloud-init makes, or renames the image's own to. Without it, that of `ssh.user`.";
            sshKeys = mkOption { type = listOf str; default = [ ]; description = "Public keys of this user, beside ours and those of `ssh.authorizedKeys`."; };
            nameservers = mkOption { type = listOf str; default = [ ]; example = [ "192.0.2.1" ]; description = "Name servers. Without them, those of the NICs, and if there are none, those of the node."; };
            searchDomains = mkOption { type = listOf str; default = [ ]; example = [ "example.org" ]; description = "Domains in which the guest looks up short names. Without them, those of the NICs, and if there are none, those of the node."; };
            upgrade = mkOption { type = bool; default = false; description = "Whether cloud-init upgrades all packages at the first boot. PVE 7 always lets it."; };
            type = mkOption { type = enum [ "nocloud" "configdrive2" ]; default = "nocloud"; description = "The format of the drive. Windows wants `configdrive2`."; };
            storage = optional' str "local-lvm" "The storage for the drive. Without it, that of the first disk.";
          };
        }) "What PVE's own cloud-init drive tells the machine. The addresses are those of the NICs. See `docs/images.md`.";
      layout = optional layoutName "How the first disk is laid out: see [disks](disks.md). The default is `ext4`, if neither `partition` nor disko partitions the disks.";
      partition = optional types.lines "A shell script that partitions the disks in the installer and leaves the target mounted on `/mnt`. If it exits with 100, we reboot the installer and run the script again.";
      method = mkOption { type = enum [ "closure" "configuration" ]; default = "closure"; description = "What we install: the built system (`closure`), or a minimal configuration that the deployment then replaces (`configuration`)."; };
      configuration = optional types.lines "The configuration.nix to install, if `method` is `configuration`.";
      generation = mkOption { type = ints.between 0 2147483648; default = 0; description = "A number. Raise it to reinstall the machine."; };
    } // { description = "How we install the system on the machine."; };
    encryption = optional
      (submodule {
        options = {
          unlock = section {
            tang = mkOption {
              type = listOf (submodule {
                options = {
                  url = optional' str "http://192.0.2.5:7500" "The address of a tang server. The first stage has no DNS, so write a literal address.";
                  thumbprint = optional' str "K0gjBt2QS6ZG8hvedtdpnXLQ6F9oXqG4l_aGD9KNYJg" "The SHA-256 thumbprint of its signing key, which `tang-show-keys` prints. No other server is believed.";
                  machine = optional' str "keeper" "A machine of the same network that serves tang, instead of a thumbprint. Its address (without `url`) and its key are learned of it over SSH, when it is ready. It is deployed first.";
                  port = mkOption { type = ints.between 1 65535; default = 7654; description = "The port where that machine serves tang. The default is NixOS's."; };
                };
              });
              default = [ ];
              description = "Tang servers that unseal the disk's key whenever the machine boots.";
            };
            tpm2 = optional
              (submodule {
                options.pcrs = mkOption {
                  type = listOf int;
                  default = [ 7 15 ];
                  description = "The registers of the TPM that the key is sealed to: of 7, 14 and 15. 15 must be among them: it is zero until the first stage has opened the disk, so that no other system gets the key afterwards. 7 changes with the keys of Secure Boot.";
                };
              }) "The VM's own TPM, which `tpm` describes, unseals the disk's key whenever the machine boots. `{ }` is enough.";
            tool = mkOption { type = bool; default = false; description = "Whether `unlock NAME`, and a deploy that boots the machine, type the disk's key into the serial console. The key stays in the operator's key store."; };
            ssh = optional
              (submodule {
                options.port = mkOption { type = ints.between 1 65535; default = 2222; description = "The port of the first stage's SSH server."; };
              }) "`unlock NAME`, and a deploy that boots the machine, hand the disk's key to an SSH server in the first stage, which has a host key of its own. `{ }` is enough.";
            typed = mkOption { type = bool; default = false; description = "Whether somebody types the recovery key when the machine boots. A deploy waits for it."; };
          } // { description = "What opens the disk when the machine boots. Set at least one."; };
          threshold = mkOption { type = ints.between 1 255; default = 1; description = "How many of the tang servers and the TPM must give their part."; };
          recovery = section {
            sink = section {
              command = optional' str "pass insert --multiline luks/$MACHINE-$LUKS_UUID" "A shell command of the operator that gets the key on its standard input. The environment has DEPLOYMENT, MACHINE, VOLUME, LUKS_UUID and KIND.";
              folder = optional' str "/home/me/luks" "A folder of the operator, in which the key becomes a file for its owner alone.";
              age = mkOption { type = listOf str; default = [ ]; description = "Public keys of age, or SSH public keys. If not empty, the sink gets the key encrypted to them."; };
              none = mkOption { type = bool; default = false; description = "Whether to have no recovery key. If nothing else opens the disk any more, its data is lost."; };
            } // { description = "Where the recovery key goes. If the sink fails, the disk is not written. Set one of them."; };
            header = mkOption { type = bool; default = false; description = "Whether the sink also gets a backup of the disk's header, after the installation and whenever `recovery rotate` has made new keys. A command sees which of both it gets by KIND, which is `key` or `header`."; };
          } // { description = "The recovery key, which opens the disk whatever else is lost."; };
        };
      }) "LUKS2 on the first disk, with all of it but the boot partition, and on each other disk that has `encrypt`. See `docs/encryption.md`.";
    container = optional
      (submodule {
        options = {
          template = mkOption { type = either str types.path; example = "local:vztmpl/nixos.tar.xz"; description = "What the container's root is made of: a volume of a storage, a file here, or a package that builds one, such as our `container-template`. A file is uploaded once for each storage."; };
          storage = optional' str "local" "The storage for a template that we upload. Without it, we choose one that takes templates.";
          root = mkOption {
            description = "The container's root file system.";
            type = submodule {
              options = {
                storage = mkOption { type = str; example = "local-lvm"; description = "The storage for the root."; };
                size = mkOption { type = size; example = "8G"; description = "The size: a number of GiB, or a number with K, M, G or T. Raise it to grow the root while the container runs. It never shrinks."; };
              };
            };
          };
          mounts = mkOption {
            type = either (listOf (submodule mount)) (attrsOf (submodule mount));
            default = [ ];
            example = [{ path = "/var/lib/data"; storage = "local-lvm"; size = "20G"; }];
            description = "Volumes of the container's own beside its root: a list, or a set by slot. One that you remove is detached and keeps its data until the container is destroyed.";
          };
          swap = optional' size 512 "The swap space: a number of MiB, or a number with M, G or T.";
          nesting = mkOption { type = bool; default = true; description = "Whether the container may have namespaces of its own. systemd and Nix's sandbox need that."; };
        };
      }) "What a container has that a VM has not. Only with `kind = \"container\"`.";
    endpoint = section {
      families = mkOption { type = listOf (enum [ "ipv4" "ipv6" ]); default = [ "ipv6" "ipv4" ]; description = "The address families to try, the preferred one first."; };
      reaches = mkOption { type = listOf (enum [ "private" "public" ]); default = [ "private" "public" ]; description = "The kinds of addresses to try, the preferred one first."; };
      allow = mkOption { type = listOf str; default = [ ]; example = [ "10.0.0.0/8" ]; description = "If not empty, we use only addresses in these networks."; };
      deny = mkOption { type = listOf str; default = [ ]; description = "We use no addresses in these networks."; };
      denyInterfaces = mkOption { type = listOf str; default = [ ]; example = [ "wg*" "!tailscale0" ]; description = "Patterns of guest interfaces. We do not use the addresses of interfaces that match. A pattern with `!` allows an interface that we ignore by default."; };
      address = optional str "The address or name to use. If it is set, we use no other.";
      jump = optional' str "admin@gate.example.org" "The SSH jump host, written as for OpenSSH's ProxyJump.";
      through = optional' str "gate" "The machine of the network through which we reach this one: its SSH jump host. A deploy makes that machine ready first. Its own `jump` or `through` is followed, too.";
    } // { description = "Which of its addresses we use to reach the machine."; };
    ssh = section {
      user = mkOption { type = str; default = "root"; description = "The user to log in as."; };
      port = mkOption { type = ints.between 1 65535; default = 22; description = "The port of the machine's sshd."; };
      options = mkOption { type = attrsOf (types.oneOf [ str int bool ]); default = { }; example = { ConnectTimeout = 20; }; description = "Options for OpenSSH. We refuse those that decide which host key to trust."; };
      identityFile = optional' str "/home/me/.ssh/deploy" "The path of a private key. Write it as a string, so that the key stays out of the Nix store.";
      authorizedKeys = mkOption { type = listOf str; default = [ ]; description = "The public keys that may log in."; };
      hostKey = mkOption { type = str; default = "/etc/ssh/ssh_host_ed25519_key"; example = "/persist/etc/ssh/ssh_host_ed25519_key"; description = "Where the machine's system has its host key, which we make. sshd reads it there. See `docs/secrets.md`."; };
    } // { description = "How to log in to the machine."; };
    deploy = section {
      strategy = section {
        group = optional' str "web" "The group of machines that are changed in one order. Machines that name none are a group, too.";
        batch = optional' (either int str) "25%" "How many machines of the group a deploy changes at a time: a number, or a percentage of those that it works on. The next ones begin when these are ready and well. null: all at once.";
        canary = mkOption { type = bool; default = false; description = "Whether this machine is changed before the others of its group. If it fails, they are left alone."; };
        maxFailures = mkOption { type = ints.between 0 100000; default = 0; description = "How many machines of the group may fail before no more are begun."; };
      } // { description = "Which machines are changed at the same time. The machines of a group say the same `batch` and `maxFailures`. Only the command line's `deploy` has an order of its own. See `docs/rolling.md`."; };
      hooks = section {
        before = optional' (listOf str) [ "./drain" "web1" ] "A command that runs on the computer that deploys, before a machine that is installed is changed. It gets the machine as JSON on its standard input. If it fails, the machine is left alone.";
        after = optional' (listOf str) [ "./undrain" "web1" ] "A command that runs there when the machine has been changed, and is ready and well. If it fails, the machine counts as failed.";
        timeout = mkOption { type = ints.between 1 86400; default = 300; description = "How many seconds each of them gets."; };
      } // { description = "Commands of yours around each change of the machine by `deploy`. Each runs at least once: again, if a run was killed. NixOps 2 does not run them. See `docs/rolling.md`."; };
      probation = mkOption { type = ints.between 0 86400; default = 120; description = "For how many seconds a new system that is active waits to be confirmed. If it is not, the machine goes back to the system before by itself. 0: a new system is kept, whatever comes of it. See `docs/probation.md`."; };
      failedUnits = mkOption { type = enum [ "revert" "accept" ]; default = "revert"; description = "What to do if services fail that had not failed before the activation: go back to the system before, or go on."; };
      snapshot = mkOption { type = bool; default = false; description = "Whether a snapshot of the machine's disks is taken before a new system is taken into use. It is removed when that system is confirmed. If PVE can take none of its disks, or it has volumes, a deploy refuses. See `docs/probation.md`."; };
      health = section {
        units = mkOption { type = listOf str; default = [ ]; example = [ "nginx.service" ]; description = "The units that must be active."; };
        tcp = mkOption { type = listOf (ints.between 1 65535); default = [ ]; example = [ 443 ]; description = "The ports that must take connections from here, by the way that SSH takes."; };
        http = mkOption {
          type = listOf (submodule {
            options = {
              port = mkOption { type = ints.between 1 65535; default = 80; description = "The port."; };
              path = mkOption { type = str; default = "/"; example = "/health"; description = "The path."; };
              status = mkOption { type = ints.between 100 599; default = 200; description = "The status that the answer must have."; };
            };
          });
          default = [ ];
          example = [ { port = 8080; path = "/health"; } ];
          description = "Requests that we make from here, by the way that SSH takes, and that must be answered.";
        };
        command = optional' str "pg_isready" "A shell script that must succeed in the machine, run as root. It gets 30 seconds.";
      } // { description = "What must hold before a new system is confirmed. It is tried again until it holds, or the probation is over."; };
      copying = section {
        fromCaches = mkOption { type = bool; default = false; description = "Whether the machine fetches what it lacks from its own binary caches, such as cache.nixos.org, and gets only the rest from here. Quicker where the line from here is slow. A machine that cannot reach its caches waits for them."; };
        compress = mkOption { type = bool; default = false; description = "Whether SSH compresses what is copied. Quicker where the line is slower than some 100 Mbit/s."; };
        cache = mkOption {
          type = nullOr (submodule {
            options = {
              push = mkOption { type = str; example = "s3://systems?region=eu-central-1"; description = "The store of Nix that we copy systems to: file:, http:, https:, s3:, ssh: or ssh-ng:."; };
              url = mkOption { type = str; example = "https://cache.lan"; description = "Where the machine, and its installer, fetch from it: http:, https:, s3: or file:."; };
            };
          });
          default = null;
          description = "A binary cache near the machines. A system is signed, copied there once for all machines that need it, and fetched by each. If that fails, it is copied from here. See `docs/many-machines.md`.";
        };
      } // { description = "How a system is copied to the machine."; };
      buildOn = mkOption { type = enum [ "here" "guest" ]; default = "here"; description = "Where a system is built: `here`, by the Nix that evaluates it and its remote builders, or on the `guest` itself, which gets the derivations, and needs memory and room for the build. While a machine is installed, its installer builds onto its disk. See `docs/many-machines.md`."; };
    } // { description = "How a new system is taken into use."; };
  };

  # Of `resources.volumes.NAME`.
  volumeOptions = {
    kind = mkOption { type = enum [ "vm" "container" ]; default = "vm"; description = "Whether VMs or containers can have it. A volume for VMs is a disk, and one for containers a mount point with a file system. It never becomes the other."; };
    profile = mkOption { type = str; default = "default"; description = "The hypervisor's profile."; };
    storage = mkOption { type = str; example = "local-lvm"; description = "The storage for the disk."; };
    size = mkOption { type = size; example = "200G"; description = "The size: a number of GiB, or a number with K, M, G or T. Raise it to grow the disk. A volume never shrinks."; };
    node = optional str "The node where it is made. The default is the node of its machine.";
    protect = mkOption { type = bool; default = true; description = "Whether `volume delete` refuses."; };
    discard = optional bool "Whether the storage gets back the space that the guest frees.";
    ssd = optional bool "Whether the guest sees an SSD.";
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
    description = "Refused, because every value in Nix ends up in the store, which everybody can read.";
  });
}
