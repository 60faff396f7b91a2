"""Files put on a hypervisor's storage once: their names hold their content's hash."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from nixops_proxmox.errors import ConfigError, NotFound
from nixops_proxmox.pve.hypervisor import PveHypervisor, open_hypervisor


@contextmanager
def open_volumes(profile: str, profiles: Path | None = None) -> Iterator["Volumes"]:
    with open_hypervisor(profile, profiles=profiles) as hypervisor:
        yield Volumes(hypervisor)


class Volumes:
    def __init__(self, hypervisor: PveHypervisor) -> None:
        self._hypervisor = hypervisor

    def ensure(self, path: Path, storage: str, content: str, *, node: str = "") -> str:
        """The volume ID of the file's content on the storage; uploaded if it is not there yet."""
        name = content_name(path)
        node = node or self._node_of(storage)
        client = self._hypervisor.client
        found = next((v for v in client.list_volumes(node, storage, content) if v.volid.endswith(f"/{name}")), None)
        if found is None:
            return self._hypervisor.upload(node, storage, path, content=content, filename=name)
        return found.volid

    def _node_of(self, storage: str) -> str:
        for seen in self._hypervisor.resources().storages:
            if seen.storage == storage and seen.available:
                return seen.node
        raise NotFound(
            f"no node has the storage {storage!r} active, or it may not be seen",
            hint="`nixops-proxmox doctor` lists the storages; the token needs Datastore.Audit on it",
        )


def content_name(path: Path) -> str:
    """`nixos.iso` becomes `nixos-0123456789abcdef.iso`: the same content never travels twice."""
    try:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from error
    return f"{path.stem}-{digest[:16]}{path.suffix}"
