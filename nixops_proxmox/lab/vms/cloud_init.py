"""PVE's cloud-init drive: what it tells a guest, as PVE writes it, and when it is written again."""

import hashlib
import re
from collections.abc import Iterator, Mapping

from nixops_proxmox.lab.cluster import Cluster
from nixops_proxmox.lab.config import MASK, decode_keys, is_disk, parse_disk, volume_of
from nixops_proxmox.lab.refusals import die
from nixops_proxmox.lab.release import Release
from nixops_proxmox.lab.schema.properties import split
from nixops_proxmox.lab.vm import Vm

KEYS = ("ciuser", "cipassword", "sshkeys", "nameserver", "searchdomain", "citype", "cicustom", "ciupgrade", "name")
DRIVE = re.compile(r"[:/]vm-[0-9]+-cloudinit(\.|$)|:cloudinit$")


def is_told(key: str) -> bool:
    return key in KEYS or re.fullmatch(r"ipconfig\d+", key) is not None


def has_drive(config: Mapping[str, str], besides: str = "") -> str:
    """Its key; empty: there is none."""
    found = (key for key in sorted(config) if is_disk(key) and key != besides)
    return next((key for key in found if DRIVE.search(parse_disk(key, config[key])["file"])), "")


def refuse_second(vm: Vm | None, values: Mapping[str, str], key: str) -> None:
    """A VM has one of them."""
    known = {} if vm is None else {**vm.config, **vm.pending}
    before = {other: value for other, value in values.items() if other < key}
    if other := has_drive({**known, **before}, besides=key):
        die(f"{key} - cloud-init drive is already attached at '{other}'")


async def write_drive(cluster: Cluster, vm: Vm) -> None:
    """The drive has what is configured now. A VM without one has nothing to tell. Of the formats, only `nocloud` is
    written, and no files of `cicustom`."""
    if key := has_drive(vm.config):
        vm.told = {name: value for name, value in vm.config.items() if is_told(name)}
        drive = cluster.stores.get_volume(volume_of(vm.config[key]), vm.node)
        if vm.config.get("citype", "nocloud") == "nocloud":
            await cluster.driver.burn(drive.volume, "cidata", drive_files(vm.config, vm.vmid, cluster.release))


def drive_files(config: Mapping[str, str], vmid: int, release: Release) -> Mapping[str, str]:
    return {
        "user-data": user_data(config, vmid, release),
        "meta-data": meta_data(config, vmid, release),
        "network-config": network_config(config),
    }


def user_data(config: Mapping[str, str], vmid: int, release: Release, *, masked: bool = False) -> str:
    """`masked`: as it is shown."""
    if masked and "cipassword" in config:
        config = {**config, "cipassword": MASK}
    return "\n".join([*_user_lines(config, vmid, release), ""])


def _user_lines(config: Mapping[str, str], vmid: int, release: Release) -> Iterator[str]:
    name = config.get("name", f"VM{vmid}")
    search = config.get("searchdomain", "")
    yield from ("#cloud-config", f"hostname: {name.partition('.')[0]}", "manage_etc_hosts: true")
    yield f"fqdn: {name}" + (f".{search}" if search and "." not in name else "")
    if user := config.get("ciuser"):
        yield f"user: {user}"
        yield from ["disable_root: False"] if user == "root" else []
    if "cipassword" in config:
        yield f"password: {config['cipassword']}"
    if "sshkeys" in config:
        yield from ("ssh_authorized_keys:", *(f"  - {key}" for key in decode_keys(config["sshkeys"])))
    yield from ("chpasswd:", "  expire: False")
    if config.get("ciuser") != "root":
        yield from ("users:", "  - default")
    if not release.since(8) or config.get("ciupgrade", "1") != "0":
        yield "package_upgrade: true"


def network_config(config: Mapping[str, str]) -> str:
    """Version 1, for the NICs that have an address."""
    lines = ["version: 1", "config:"]
    for key in sorted(key for key in config if re.fullmatch(r"net\d+", key)):
        number = key.removeprefix("net")
        if told := split(config.get(f"ipconfig{number}", ""), ""):
            lines += ["    - type: physical", f"      name: eth{number}"]
            lines += [f"      mac_address: '{_mac(config[key])}'", "      subnets:", *_subnets(told)]
    servers, search = config.get("nameserver", "").split(), config.get("searchdomain", "").split()
    lines += ["    - type: nameserver"]
    lines += ["      address:", *(f"      - '{one}'" for one in servers)] if servers else []
    lines += ["      search:", *(f"      - '{one}'" for one in search)] if search else []
    return "\n".join([*lines, ""])


def _mac(nic: str) -> str:
    found = re.search(r"([0-9A-Fa-f]{2}(?::[0-9A-Fa-f]{2}){5})", nic)
    return found[1].lower() if found else ""


def _subnets(told: Mapping[str, str]) -> Iterator[str]:
    for family, gateway, dynamic, static in (("ip", "gw", "dhcp4", "static"), ("ip6", "gw6", "dhcp6", "static6")):
        value = told.get(family, "")
        if value in ("dhcp", "auto"):
            yield f"      - type: {dynamic if value == 'dhcp' else 'ipv6_slaac'}"
        elif value:
            yield from (f"      - type: {static}", f"        address: '{value}'")
            yield from [f"        gateway: '{told[gateway]}'"] if gateway in told else []


def meta_data(config: Mapping[str, str], vmid: int, release: Release) -> str:
    """Another value of anything is another instance."""
    told = user_data(config, vmid, release) + network_config(config)
    return f"instance-id: {hashlib.sha1(told.encode(), usedforsecurity=False).hexdigest()}\n"
