"""Pure: which storages of two clusters are one and the same, by what their configurations say."""

from collections.abc import Iterable, Mapping
from typing import Any

from nixops_proxmox.pve.api.answers import ClusterResources, StorageSeen

TOLD_BY = {  # what tells a network storage, by its type
    "nfs": ("server", "export", "subdir"),
    "cifs": ("server", "share", "subdir"),
    "pbs": ("server", "port", "datastore", "namespace"),
    "cephfs": ("monhost", "fs-name", "subdir"),
}

StorageSettings = Mapping[str, Mapping[str, Any]]


def identity_of(setting: Mapping[str, Any]) -> tuple[str, ...] | None:
    """What is the same wherever this storage is configured. None: nothing tells."""
    kind = str(setting.get("type", ""))
    if kind not in TOLD_BY:
        return None
    return (kind, *(str(setting.get(key, "")).rstrip("/").lower() for key in TOLD_BY[kind]))


def common_storages(here: StorageSettings, there: StorageSettings) -> Mapping[str, str]:
    """The names there, by the names here."""
    known = {identity: name for name, setting in sorted(there.items()) if (identity := identity_of(setting))}
    found = {name: known.get(identity) for name, setting in here.items() if (identity := identity_of(setting))}
    return {name: other for name, other in found.items() if other is not None}


def backup_places(seen: ClusterResources, node: str = "") -> list[StorageSeen]:
    """Those that take backups and are there now. `node`: seen from this one."""
    return [one for one in seen.storages if one.available and "backup" in one.content and node in ("", one.node)]


def choose_common(common: Mapping[str, str], places: Iterable[StorageSeen], places_there: Iterable[StorageSeen]) -> str:
    """The one with the most room that takes backups on both sides; its name here. Empty: there is none."""
    there = {one.storage for one in places_there}
    fitting = [one for one in places if common.get(one.storage) in there]
    return max(fitting, key=lambda one: one.free).storage if fitting else ""
