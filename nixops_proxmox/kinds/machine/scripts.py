"""The scripts that run in the installer, as text: built here, run elsewhere."""

import json
import shlex
from collections.abc import Iterator, Sequence
from itertools import starmap

from nixops_proxmox.kinds.machine import encrypted_layout
from nixops_proxmox.kinds.machine.packing import pack
from nixops_proxmox.model import Facts, FileForDisk, GuestDisk, Machine
from nixops_proxmox.spec import InstallMethod, IpSpec, MachineSpec, Nic
from nixops_proxmox.spec.layouts import DEFAULT_LAYOUT, layout_script
from nixops_proxmox.spec.serials import disk_path, disk_serial
from nixops_proxmox.texts import nix_string, script_marker


def partition_script(spec: MachineSpec, facts: Facts, disks: Sequence[GuestDisk], *, again: bool) -> str:
    """The user's script or that of the layout, with variables: DISK_<slot>, DISK_<number> and DISKS (device paths in
    the order of the description), KEEP (slots not to be written), PASS (1, 2, … after reboots that the script asked for
    with exit status 100), REINSTALL (1 when the machine was installed before)."""
    names = {disk.slot: device_path(found) for disk, found in zip(spec.disks, disks, strict=True)}
    kept = [disk.slot for disk in spec.disks if disk.keep and again]
    settings = {f"DISK_{slot}": device for slot, device in names.items()}
    settings |= {f"DISK_{number}": device for number, device in enumerate(names.values())}
    settings |= {"DISKS": " ".join(names.values()), "KEEP": " ".join(kept), "PASS": str(facts.passes + 1)}
    settings |= {"REINSTALL": "1" if again else ""}
    lines = [f"export {name}={shlex.quote(value)}" for name, value in settings.items()]
    lines += [NAMED, *_named(spec, facts, disks)]
    body = spec.install.partition or "set -e\n" + (
        layout_script(spec.install.layout or DEFAULT_LAYOUT)
        if spec.encryption is None
        else encrypted_layout.layout(spec, facts, kept)
    )
    return script_marker("partition") + "\n".join([*lines, _unmount(), body, ""])


# Where udev gives a disk no name with its serial, we do: what writes the disks may know them by it. If such a name
# leads to another disk, nothing is written.
NAMED = """\
named() {
  [ -e "$1" ] || { mkdir -p "${1%/*}" && ln -sfn "$2" "$1"; }
  [ "$(readlink -f "$1")" = "$(readlink -f "$2")" ] && return 0
  echo "$1 leads to $(readlink -f "$1"), and the declared disk is $2; nothing was written" >&2
  exit 1
}"""


def _named(spec: MachineSpec, facts: Facts, disks: Sequence[GuestDisk]) -> Iterator[str]:
    """Nothing for disks that somebody else made: they are known by the names that they have."""
    for disk, found in zip(spec.disks, disks, strict=True):
        if disk.serial or not facts.nameless:
            yield shlex.join(["named", disk_path(disk.slot, disk_serial(facts.serial_base, disk)), found.device])


def install_script(spec: MachineSpec, system: str) -> str:
    """Run nixos-install, then unmount the target, because the VM is switched off after this. A sync is not enough: a
    journal replayed at the first boot undoes what a boot loader wrote past it (extlinux, in
    ext4's first block), and boot loaders do not replay any."""
    if spec.install.method is InstallMethod.CLOSURE:
        install = f"nixos-install --root /mnt --system {shlex.quote(system)} --no-root-passwd --no-channel-copy"
    else:
        install = "nixos-generate-config --root /mnt\nnixos-install --root /mnt --no-root-passwd"
    return f"{script_marker('install')}set -e\n{install}\nsync\numount -R /mnt || sync\n"


FOLDERS = {
    **dict.fromkeys(("etc", "etc/ssh", "etc/ssh/authorized_keys.d", "etc/nixops-proxmox", "etc/nixos"), 0o755),
    **dict.fromkeys(("root", "root/.ssh"), 0o700),
}  # that a new disk may not have


def delivery(
    machine: Machine,
    spec: MachineSpec,
    private: str,
    public: str,
    authorized: Sequence[str],
    boot_device: str,
) -> tuple[str, bytes]:
    """A script and its standard input: the machine's identity, put on the target's disk before its first boot."""
    files = identity_files(machine, spec, private, public) | {
        "root/.ssh/authorized_keys": ("".join(f"{key.strip()}\n" for key in authorized), 0o600),
        "etc/hostname": (f"{machine.name}\n", 0o644),
    }
    if spec.ssh.user != "root":  # the system brings the user; sshd on NixOS looks here, too
        keys = "".join(f"{key.strip()}\n" for key in authorized)
        files[f"etc/ssh/authorized_keys.d/{spec.ssh.user}"] = (keys, 0o644)
    if spec.install.method is InstallMethod.CONFIGURATION:
        text = spec.install.configuration or minimal_configuration(machine, spec, authorized, boot_device)
        files["etc/nixos/configuration.nix"] = (text, 0o644)
    return f"{script_marker('deliver')}set -e\ncd /mnt\ntar -xpf -\nsync\n", pack(
        starmap(_as_file, files.items()), FOLDERS
    )


def _as_file(path: str, said: tuple[str, int]) -> FileForDisk:
    text, mode = said
    return FileForDisk(path, text.encode(), mode)


def placing(files: Sequence[FileForDisk]) -> tuple[str, bytes]:
    """A script and its standard input: the user's own files, put on the target's disk before its first boot."""
    script = f"{script_marker('deliver')}set -e\numask 022\ncd /mnt\ntar --numeric-owner -xpf -\nsync\n"
    return script, pack(files)


def identity_files(machine: Machine, spec: MachineSpec, private: str, public: str) -> dict[str, tuple[str, int]]:
    """What tells a system who it is: text and mode, by path from the root."""
    place = spec.ssh.host_key.lstrip("/")
    return {
        place: (private, 0o600),
        f"{place}.pub": (public.rstrip() + "\n", 0o644),
        "etc/nixops-proxmox/machine": (f"{machine.facts.uuid}\n", 0o644),
        "etc/nixops-proxmox/network.json": (network_declaration(machine, spec), 0o644),
    }


def network_declaration(machine: Machine, spec: MachineSpec) -> str:
    """The description's addresses by MAC, as JSON, for small systems that no NixOS module configures."""
    interfaces = []
    for mac, nic in zip(machine.facts.macs, spec.network, strict=False):
        entry = {"mac": mac, "ipv4": _ip_word(nic.ipv4), "ipv6": _ip_word(nic.ipv6)}
        if nic.ipv4.gateway is not None:
            entry["gateway4"] = str(nic.ipv4.gateway)
        if nic.ipv6.gateway is not None:
            entry["gateway6"] = str(nic.ipv6.gateway)
        interfaces.append(entry)
    told = {"interfaces": interfaces, "nameservers": spec.name_servers, "search": spec.search_domains}
    return json.dumps(told, indent=2, sort_keys=True) + "\n"


def _ip_word(ip: IpSpec) -> str:
    return f"{ip.address}/{ip.prefix}" if ip.method == "static" else ip.method


def minimal_configuration(machine: Machine, spec: MachineSpec, authorized: Sequence[str], boot_device: str) -> str:
    """A configuration.nix that boots, lets us in and has the guest agent. The real one follows by deployment."""
    keys = " ".join(nix_string(key.strip()) for key in authorized)
    loader = (
        "boot.loader.systemd-boot.enable = true;\n  boot.loader.efi.canTouchEfiVariables = true;"
        if spec.bios == "ovmf"
        else f"boot.loader.grub.enable = true;\n  boot.loader.grub.devices = [ {nix_string(boot_device)} ];"
    )
    lines = [
        "imports = [ ./hardware-configuration.nix ];",
        f"networking.hostName = {nix_string(machine.name)};",
        loader,
        "services.openssh.enable = true;",
        f"services.openssh.ports = [ {spec.ssh.port} ];",
        "services.openssh.settings.PasswordAuthentication = false;",
        "services.qemuGuest.enable = true;",
        *_user(spec.ssh.user, keys),
        'boot.kernelParams = [ "console=tty0" "console=ttyS0" ];',
        # This system lives until the first deployment, whose own word then holds.
        "system.stateVersion = lib.mkDefault config.system.nixos.release;",
        *_static_network(machine, spec),
    ]
    return "{ config, lib, ... }:\n{\n" + "".join(f"  {line}\n" for line in lines) + "}\n"


def _user(user: str, keys: str) -> list[str]:
    """Who may log in. A user other than root becomes root with sudo, as in nix/guest.nix."""
    if user == "root":
        return [f"users.users.root.openssh.authorizedKeys.keys = [ {keys} ];"]
    return [
        f'users.users.{nix_string(user)} = {{ isNormalUser = true; extraGroups = [ "wheel" ]; '
        f"openssh.authorizedKeys.keys = [ {keys} ]; }};",
        f"nix.settings.trusted-users = [ {nix_string(user)} ];",
        f"security.sudo.extraRules = [ {{ users = [ {nix_string(user)} ]; "
        'commands = [ { command = "ALL"; options = [ "NOPASSWD" ]; } ]; } ];',
    ]


def _static_network(machine: Machine, spec: MachineSpec) -> list[str]:
    """The declared addresses, as nix/guest.nix gives them: where all is dynamic, NixOS's own DHCP does it."""
    if not any("static" in (nic.ipv4.method, nic.ipv6.method) for nic in spec.network):
        return []
    units = {
        f"00-proxmox-{nic.slot}": _unit(mac, nic) for mac, nic in zip(machine.facts.macs, spec.network, strict=False)
    }
    lists = {"nameservers": spec.name_servers, "search": spec.search_domains}
    return [
        "networking.useDHCP = false;",
        *(f"networking.{name} = {_nix_data(values)};" for name, values in lists.items() if values),
        "systemd.network.enable = true;",
        f"systemd.network.networks = {_nix_data(units)};",
    ]


def _unit(mac: str, nic: Nic) -> dict[str, object]:
    static = [ip for ip in (nic.ipv4, nic.ipv6) if ip.method == "static"]
    dynamic = {(True, True): "yes", (True, False): "ipv4", (False, True): "ipv6", (False, False): "no"}
    return {
        "matchConfig": {"MACAddress": mac.lower()},
        "networkConfig": {
            "DHCP": dynamic[nic.ipv4.method == "dhcp", nic.ipv6.method == "dhcp"],
            "IPv6AcceptRA": nic.is_advertised,
            "LinkLocalAddressing": "no" if nic.ipv6.method == "none" else "ipv6",
        },
        "address": [f"{ip.address}/{ip.prefix}" for ip in static],
        "routes": [{"Gateway": str(ip.gateway), "GatewayOnLink": True} for ip in static if ip.gateway is not None],
    }


def _nix_data(value: object) -> str:
    return f"builtins.fromJSON {nix_string(json.dumps(value, sort_keys=True))}"


def reads_only(spec: MachineSpec, disks: Sequence[GuestDisk]) -> list[GuestDisk]:
    """The disks that a reinstall must not write."""
    return [found for disk, found in zip(spec.disks, disks, strict=True) if disk.keep]


def device_path(disk: GuestDisk) -> str:
    return disk.by_id[0] if disk.by_id else disk.device


def _unmount() -> str:
    """A partition script that is run again must not find its own disks busy."""
    return "if grep -qs ' /mnt ' /proc/self/mounts; then umount -R /mnt || umount -l /mnt; fi"
