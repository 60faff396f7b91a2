"""The storages of a cluster: what they take, and where they are active."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from nixops_proxmox.pve.api.answers import split_list
from nixops_proxmox.pve.api.client import PveClient
from nixops_proxmox.pve.api.versions import Release


@dataclass(frozen=True)
class StorageFound:
    """`silent`: the nodes that should have it, and on which it is not active. `digest`: of all storages."""

    kind: str
    content: tuple[str, ...]
    digest: str = ""
    disabled: bool = False
    silent: tuple[str, ...] = ()


class StorageStore:
    """Satisfies `kinds.storage.kind.StorageStore`."""

    def __init__(self, client: PveClient, release: Callable[[], Release]) -> None:
        self._client, self._release = client, release

    def find(self, storage: str, /) -> StorageFound | None:
        said = self._client.get_storage_settings().get(storage)
        if said is None:
            return None
        seen = self._client.get_resources(0.0).storages
        silent = sorted({one.node for one in seen if one.storage == storage and not one.available})
        content = tuple(one for one in split_list(str(said.get("content", ""))) if one != "none")
        off = str(said.get("disable", "0")) == "1"
        return StorageFound(str(said.get("type", "")), content, str(said.get("digest", "")), off, tuple(silent))

    def has_content(self, content: str, /) -> bool:
        return content != "import" or self._release().has_import_content

    def set_content(self, storage: str, content: Sequence[str], digest: str, /) -> None:
        self._client.set_storage_content(storage, content, digest)
