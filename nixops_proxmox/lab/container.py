"""One container of the cluster: its configuration as PVE keeps it, and what is parsed out of it."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from typing_extensions import override

from nixops_proxmox.lab.config import UNUSED, volume_of
from nixops_proxmox.lab.refusals import die
from nixops_proxmox.lab.schema import properties
from nixops_proxmox.lab.schema.container import CONFIG, MOUNT, NET, VOLUME
from nixops_proxmox.lab.vm import Vm

VOLUME_KEY = re.compile(r"^(rootfs|mp\d+)$")


@dataclass
class Container(Vm):
    kind: ClassVar[str] = "lxc"
    word: ClassVar[str] = "CT"

    @property
    @override
    def name(self) -> str:
        return self.config.get("hostname", f"CT{self.vmid}")

    @property
    @override
    def lock_file(self) -> str:
        return f"/run/lock/lxc/pve-config-{self.vmid}.lock"

    @property
    @override
    def sid(self) -> str:
        return f"ct:{self.vmid}"

    @property
    @override
    def has_agent_device(self) -> bool:
        return False

    @override
    def check_lock(self, *but: str) -> None:
        if self.lock and self.lock not in but:
            die(f"CT is locked ({self.lock})")

    @override
    def volids(self) -> list[str]:
        configs = (self.config, self.pending, *(snapshot.config for snapshot in self.snapshots.values()))
        return list(dict.fromkeys(volid for config in configs for _, volid in volumes_in(config)))


def volumes_in(config: Mapping[str, str]) -> Iterable[tuple[str, str]]:
    """Key and volume of all that has one."""
    for key, value in config.items():
        if (VOLUME_KEY.match(key) or UNUSED.match(key)) and (volid := volume_of(value)):
            yield key, volid


def mounts_of(config: Mapping[str, str]) -> dict[str, dict[str, str]]:
    """rootfs and mount points, by key; the first one is the root's."""
    keys = sorted((key for key in config if VOLUME_KEY.match(key)), key=lambda key: (key != "rootfs", len(key), key))
    return {key: parse_mount(key, config[key]) for key in keys}


def parse_mount(key: str, value: str) -> dict[str, str]:
    return properties.parse(VOLUME if key == "rootfs" else MOUNT, value)


def print_mount(mount: Mapping[str, str]) -> str:
    return properties.format_properties(mount, "volume")


def is_bound(mount: Mapping[str, str]) -> bool:
    """A folder or a device of the node, and no volume."""
    return mount["volume"].startswith("/")


def parse_net(value: str) -> dict[str, str]:
    return properties.parse(NET, value)


def print_net(net: Mapping[str, str]) -> str:
    """The name first, then the rest by name."""
    rest = [f"{key}={net[key]}" for key in sorted(net) if key != "name"]
    return ",".join([f"name={net['name']}", *rest])


def typed(key: str, value: str) -> Any:
    param = CONFIG.get(key)
    return int(value) if param is not None and param.kind in ("integer", "boolean") else value


def shown(config: Mapping[str, str]) -> dict[str, Any]:
    return {key: typed(key, value) for key, value in config.items()}
