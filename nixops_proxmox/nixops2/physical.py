"""What NixOps adds to a machine's configuration so that it stays reachable and boots: pure, as the text of a module.

Values travel as JSON inside of a Nix string, so nothing that a guest says can be code.
"""

import json
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from nixops_proxmox.kinds.machine.scripts import device_path
from nixops_proxmox.model import Facts, GuestDisk
from nixops_proxmox.spec import MachineSpec
from nixops_proxmox.spec.volume import volume_path
from nixops_proxmox.texts import nix_string, script_marker

# Weaker than what users write, stronger than any default.
PRIORITY = 900
ABOVE_NIXOPS = 890  # stronger than the host name that NixOps sets, which is the machine's name

MODULE = """\
({{ config, lib, options, ... }}:
let
  told = builtins.fromJSON {data};
  weak = lib.mkOverride {priority};
in
{{
  fileSystems = lib.mapAttrs (_: lib.mapAttrs (_: weak)) told.fileSystems;
  deployment.proxmox.guest.bootDevice = lib.mkIf (told.bootDevice != null) (weak told.bootDevice);
  deployment.proxmox.guest.volumes = lib.mapAttrs (_: weak) told.volumes;
  deployment.proxmox.guest.taken = told.taken;
  deployment.proxmox.guest.serialsFrom = weak told.serials;
  networking.hosts = told.hosts;
  networking.hostName = lib.mkIf (told.names ? hostName) (lib.mkOverride {above} told.names.hostName);
  networking.domain = lib.mkIf (told.names ? domain) (lib.mkOverride {above} told.names.domain);
  users.users = lib.mapAttrs (_: keys: {{ openssh.authorizedKeys.keys = keys; }}) told.keys;
  systemd = lib.mkIf (config.deployment.proxmox.guest.network or false) {{
    network.networks = lib.mapAttrs'
      (slot: mac: lib.nameValuePair "00-proxmox-${{slot}}" {{ matchConfig = lib.mkForce {{ MACAddress = mac; }}; }})
      told.macs;
  }};
}})"""


def physical_module(
    spec: MachineSpec,
    facts: Facts,
    hardware: Mapping[str, Any],
    keys: Mapping[str, Sequence[str]],
    hosts: Mapping[str, Sequence[str]],
    volumes: Mapping[str, str] = MappingProxyType({}),
    taken: Mapping[str, Mapping[str, str]] = MappingProxyType({}),
) -> str:
    """A NixOS module. `hardware`: as `parse_hardware` has it. `keys`: who may log in, by user. `hosts`: the other
    machines' names, by address. `volumes`: their serials, as recorded: a deployment may be called otherwise since.
    `taken`: what NICs have taken from lists of MACs, by slot."""
    data = {
        "fileSystems": hardware.get("fileSystems", {}),
        "bootDevice": _boot_device(hardware),
        "keys": {user: list(of) for user, of in keys.items()},
        "volumes": {name: volume_path(serial) for name, serial in volumes.items()},
        "taken": {slot: {key: text for key, text in one.items() if key != "host"} for slot, one in taken.items()},
        "serials": facts.serials_told,
        "names": _names(taken),
        "hosts": {address: list(names) for address, names in hosts.items()},
        "macs": {nic.slot: mac for mac, nic in zip(facts.macs, spec.network, strict=False)},
    }
    told = nix_string(json.dumps(data, sort_keys=True))
    return MODULE.format(data=told, priority=PRIORITY, above=ABOVE_NIXOPS)


def _names(taken: Mapping[str, Mapping[str, str]]) -> dict[str, str]:
    """The host name and the domain of the first NIC's entry, as NixOS's `networking` has them."""
    first = taken.get("net0") or next(iter(taken.values()), {})
    host, _, domain = first.get("host", "").partition(".")
    return {key: text for key, text in (("hostName", host), ("domain", domain)) if text}


def _boot_device(hardware: Mapping[str, Any]) -> str | None:
    """Records of earlier releases have it as an option of GRUB."""
    earlier = hardware.get("loader", {}).get("grub", {}).get("devices", [None])
    found: str | None = hardware.get("bootDevice", earlier[0])
    return found


# --- what the installed system says of itself ----------------------------------------------------------------------

# One JSON object: where it is mounted, and whether it was booted by UEFI.
HARDWARE_SCRIPT = (
    script_marker("hardware")
    + """\
set -e
printf '{"efi": %s, "mounts": ' "$([ -d /sys/firmware/efi ] && echo true || echo false)"
findmnt --json --list --real -o TARGET,SOURCE,FSTYPE,OPTIONS,UUID
printf '}\\n'
"""
)

# Not of the root's own making: bind mounts, images, network file systems.
_DISK_TYPES = frozenset({"ext2", "ext3", "ext4", "xfs", "btrfs", "f2fs", "bcachefs", "vfat", "zfs"})


def parse_hardware(told: Mapping[str, Any], disk: GuestDisk | None) -> dict[str, Any]:
    """File systems as installed. `disk`: the first one, which GRUB is on without UEFI. The loader itself follows the
    firmware in the machine's own configuration, where a loader that the user chose wins."""
    systems = {}
    for entry in told["mounts"]["filesystems"]:
        kind, uuid, source = entry["fstype"], entry.get("uuid") or "", str(entry["source"] or "")
        if kind not in _DISK_TYPES or not str(entry["target"]).startswith("/"):
            continue
        subvolume = [word for word in str(entry.get("options", "")).split(",") if word.startswith("subvol=")]
        if "[" in source and not subvolume:
            continue  # a bind mount
        device = f"/dev/disk/by-uuid/{uuid}" if uuid and kind != "zfs" else source
        system: dict[str, Any] = {"device": device, "fsType": kind}
        systems[entry["target"]] = system | ({"options": subvolume} if subvolume else {})
    return {"fileSystems": systems, "bootDevice": device_path(disk) if disk is not None and not told["efi"] else None}
