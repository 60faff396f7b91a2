# The NixOps 4 provider: `providers.proxmox = nixops-proxmox.modules.nixops4Provider.default;`. Its first argument is the
# flake, which says where the executable is for the system that NixOps runs on.
{ self }:

{ lib, resourceProviderSystem, ... }:

let
  inherit (lib) mkOption types;
  declarations = import ./options.nix { inherit lib; };
  kinds = import ./kinds.nix { inherit lib; };

  text = description: mkOption { type = types.str; inherit description; };
  perhaps = description: mkOption { type = types.nullOr types.str; default = null; inherit description; };
  number = description: mkOption { type = types.int; inherit description; };
  texts = description: mkOption { type = types.listOf types.str; inherit description; };

  # Where a secret is, on the computer that applies.
  source = file: command: {
    ${file} = perhaps "The path of the file that holds it, as a string: absolute, or with ~.";
    ${command} = mkOption { type = types.nullOr (types.listOf types.str); default = null; description = "The command that prints it. It cannot ask for anything."; };
  };

  machine = {
    name = text "The machine's name, a DNS name. A machine that exists keeps it.";
    deployment = mkOption {
      type = types.str;
      default = "nixops4";
      description = "Under which deployment the machine is recorded; `nixops-proxmox --deployment` takes the same name.";
    };
    refresh = perhaps "Any text. NixOps 4 passes over a resource whose inputs are the same; another text has it applied.";
  };

  lists = option: names: mkOption {
    type = types.attrsOf (types.submodule { inherit (kinds.${option}) options; });
    default = { };
    description = "As `resources.${option}` of the command line's networks: what `${names}` of the NICs names. A path is one that we can write, as a string.";
  };

  # What networks describe under `resources` elsewhere.
  described = builtins.listToAttrs (map
    (option: {
      name = kinds.${option}.type;
      value = {
        description = "What `resources.${option}.<name>` is in the command line's networks. It finds the machines that it names among those of the same deployment. Nothing but `nixops-proxmox destroy --resource` removes it.";
        requireState = true;
        inputs.options = kinds.${option}.options // {
          name = text "Its name. One that exists keeps it.";
          inherit (machine) deployment refresh;
        };
        outputs.options = {
          name = text "Its name, for what names it: so it is there first.";
          id = text "What Proxmox VE, or the router, calls it.";
        };
      };
    })
    (builtins.filter (option: kinds.${option}.type != null) (builtins.attrNames kinds)));

  way = {
    sshHost = text "The address that was proven to be the machine's.";
    sshPort = number "The port of its sshd.";
  };

  file = what: example: {
    description = "${what}, uploaded once under a name that holds its hash; the same file is found again.";
    requireState = false;
    inputs.options = {
      path = text "The file here." // { inherit example; };
      storage = perhaps "The storage that takes it; null: one that can.";
      node = perhaps "The node to upload by; null: any that has the storage.";
      profile = mkOption { type = types.str; default = "default"; description = "The hypervisor's profile."; };
    };
    outputs.options.volume = text "The volume, for `install.iso` or `install.image`.";
  };
in
{
  name = "Proxmox VE";
  description = ''
    Machines on Proxmox VE: their hardware, their installation, and their systems. Credentials come from the operator's
    profile file (see `nixops-proxmox profile`), never from the deployment.

    The protocol has no way to delete a resource yet: `nixops-proxmox destroy` removes what was made.
  '';
  sourceBaseUrl = "https://github.com/RaitoBezarius/nixops-proxmox/tree/main";
  sourceName = "nixops-proxmox";
  executable = "${self.packages.${resourceProviderSystem}.default}/bin/nixops4-resources-proxmox";

  resourceTypes = described // {
    vm = {
      description = "A machine's hardware, through to an installer or image that was reached by SSH and proven to be it.";
      requireState = true;
      inputs.options = machine // {
        proxmox = mkOption {
          type = types.submodule { inherit (declarations) options; };
          apply = import ./export.nix;
          description = "What `deployment.proxmox` is in the NixOS module.";
        };
        macPools = lists "macPools" "pool";
        macSchemes = lists "macSchemes" "macScheme";
        allowReboot = mkOption { type = types.bool; default = false; description = "Whether a change that needs it may restart the machine."; };
      };
      outputs.options = way // {
        machine = text "Its name, for what names machines: so it is there first.";
        uuid = text "The machine's identity, by which its VM is known. Give it to `nixos`.";
        vmid = number "The VMID.";
        node = text "The node it is on.";
        macs = texts "The MAC addresses of its NICs.";
        addresses = texts "The addresses that the guest has.";
        sshHostKeys = texts "The public host keys of its sshd.";
        serialsFrom = text "What the serials of its disks follow from, for `guest.serialsFrom`.";
        taken = mkOption {
          type = types.attrsOf (types.attrsOf types.str);
          description = "What its NICs have taken from lists of MACs, by slot: `mac`, `host`, `ipv4` and `ipv6`, as far as the list has them.";
        };
      };
    };

    nixos = {
      description = "A NixOS system on a `vm`: installed if there is none yet, activated if it is another one.";
      requireState = true;
      inputs.options = machine // {
        vm = text "The `uuid` that the `vm` gave out.";
        keys = mkOption {
          type = types.attrsOf (types.submodule {
            options = source "keyFile" "keyCommand" // {
              destDir = mkOption { type = types.str; default = "/run/keys"; description = "The folder where it will be."; };
              user = mkOption { type = types.str; default = "root"; description = "Its user."; };
              group = mkOption { type = types.str; default = "root"; description = "Its group."; };
              permissions = mkOption { type = types.str; default = "0600"; description = "Its mode."; };
            };
          });
          default = { };
          description = "What `deployment.keys` is elsewhere, but for `text`: NixOps 4 keeps its inputs in its state.";
        };
        files = mkOption {
          type = types.attrsOf (types.submodule {
            options = source "file" "command" // {
              uid = mkOption { type = types.int; default = 0; description = "The number of its user."; };
              gid = mkOption { type = types.int; default = 0; description = "The number of its group."; };
              permissions = mkOption { type = types.str; default = "0600"; description = "Its mode."; };
            };
          });
          default = { };
          description = "What `deployment.files` is elsewhere, but for `text`.";
        };
        system = mkOption { type = types.str; description = "The store path of the built system (`config.system.build.toplevel`)."; };
      };
      outputs.options = way // {
        system = text "The store path of the active system.";
        generation = number "Its generation.";
        sshHostKey = text "The machine's public host key.";
      };
    };

    iso = file "An installer ISO" "./nixops-proxmox-installer.iso";
    image = file "A disk image" "./nixos.qcow2";

    volume = {
      description = "A disk that outlives the machines which have it attached. It is made once, and grows. Nothing but `nixops-proxmox volume delete` deletes it.";
      requireState = true;
      inputs.options = {
        name = text "The volume's name. One that exists keeps it.";
        inherit (machine) deployment refresh;
        kind = mkOption { type = types.enum [ "vm" "container" ]; default = "vm"; description = "Whether VMs or containers can have it."; };
        profile = mkOption { type = types.str; default = "default"; description = "The hypervisor's profile."; };
        storage = text "The storage for the disk." // { example = "local-lvm"; };
        size = text "The size: a number with K, M, G or T. Raise it to grow the disk." // { example = "200G"; };
        node = perhaps "The node where it is made; null: the one with the most room on the storage.";
        protect = mkOption { type = types.bool; default = true; description = "Whether `nixops-proxmox volume delete` refuses."; };
        discard = mkOption { type = types.nullOr types.bool; default = null; description = "Whether the storage gets back the space that the guest frees."; };
        ssd = mkOption { type = types.nullOr types.bool; default = null; description = "Whether the guest sees an SSD."; };
      };
      outputs.options = {
        volume = text "Its name, for `proxmox.volumes` of a `vm`: so the volume is there first.";
        serial = text "The serial of the disk, which tells the volume wherever it is.";
        device = text "The stable path in the guest, for `fileSystems`.";
      };
    };

    state = {
      description = "State of NixOps 4 deployments, in the database that the command line uses (NIXOPS_PROXMOX_STATE): a team shares it.";
      requireState = false;
      inputs.options.name = text "The name of the state's document.";
      outputs.options = { };
    };
  };
}
