"""The line of Nix that accepts what a VM has: it would be described as it is."""

from collections.abc import Mapping

from nixops_proxmox.model import Change

# By PVE's key: the option below `deployment.proxmox`, and how its value is written.
_NUMBERS = {
    "memory": "memory", "balloon": "balloon", "cores": "cpu.cores", "sockets": "cpu.sockets", "cpulimit": "cpu.limit",
    "cpuunits": "cpu.units",
}  # fmt: skip
_FLAGS = {"onboot": "onboot", "protection": "protection", "numa": "cpu.numa"}
_TEXTS = {
    "startup": "startup", "hotplug": "hotplug", "vga": "display", "machine": "machine", "scsihw": "scsiController",
    "cpu": "cpu.type",
}  # fmt: skip


def accepting_line(change: Change) -> str:
    """`deployment.proxmox.cpu.cores = 4;`, or nothing where no single line says it."""
    key, have = change.key, change.have
    if key in _NUMBERS and have.replace(".", "", 1).isdecimal():
        return _line(_NUMBERS[key], f'"{have}M"' if key in ("memory", "balloon") else have)
    if key in _FLAGS and have in ("", "0", "1"):
        return _line(_FLAGS[key], "true" if have == "1" else "false")
    if key in _TEXTS and have and have.isascii() and have.isprintable() and not set(have) & set('"\\$'):
        return _line(_TEXTS[key], f'"{have}"')
    return ""


def place_of(accept: str, places: Mapping[str, str]) -> str:
    """`network.nix:12`: where the description says the option of such a line, or one that it is in. Empty: unknown."""
    path = accept.removeprefix("deployment.proxmox.").partition(" ")[0]
    while path and path not in places:
        path = path.rpartition(".")[0]
    return places.get(path, "")


def _line(option: str, value: str) -> str:
    return f"deployment.proxmox.{option} = {value};"
