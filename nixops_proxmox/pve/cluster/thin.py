"""Pure: which storages are thin, where a new volume takes no room before something is written to it."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from nixops_proxmox.pve.api.answers import ClusterResources, StorageSeen

THIN = frozenset({"lvmthin", "rbd", "btrfs"})
SPARSE = frozenset({"zfspool", "zfs"})  # thin with `sparse`; without it, ZFS reserves the declared size
FILES = frozenset({"dir", "nfs", "cifs", "glusterfs"})  # sparse files, unless `preallocation` says otherwise
ALLOCATED = ("falloc", "full")


def is_thin(kind: str, settings: Mapping[str, Any]) -> bool:
    """`settings`: the storage's entry in storage.cfg. A kind that we do not know is counted by declared sizes."""
    if kind in SPARSE:
        return str(settings.get("sparse", "0")) == "1"
    if kind in FILES:
        return str(settings.get("preallocation", "metadata")) not in ALLOCATED
    return kind in THIN


def depends_on_settings(storages: Iterable[StorageSeen], names: Iterable[str]) -> bool:
    """Is there a storage of these names whose kind does not tell whether it is thin?"""
    wanted = set(names)
    return any(one.storage in wanted and one.kind in SPARSE | FILES for one in storages)


def with_thin(seen: ClusterResources, settings: Mapping[str, Mapping[str, Any]]) -> ClusterResources:
    """The cluster, each storage marked thin or not."""
    storages = (replace(one, thin=is_thin(one.kind, settings.get(one.storage, {}))) for one in seen.storages)
    return replace(seen, storages=tuple(storages))
