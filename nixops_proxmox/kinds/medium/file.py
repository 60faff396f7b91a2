"""A file and where it is put. The name that it gets there holds the hash of its content."""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Self

from nixops_proxmox.errors import ConfigError
from nixops_proxmox.pve.wire.upload import stored_name

STEM = 200  # characters of a file's name that are kept; PVE takes 255 with all that is added
SHORT = 30  # characters of it in the record
ENDINGS = {"iso": (".iso", ".img"), "import": (".qcow2", ".raw", ".vmdk", ".ova")}


@dataclass(frozen=True)
class Medium:
    """`name`: what it is called on the storage; `size` in bytes; `content`: PVE's content type; `node`: which node is
    asked; `shared`: all nodes have it; `about`: what else the record keeps of it."""

    path: Path
    name: str
    size: int
    content: str
    storage: str
    node: str
    shared: bool = False
    about: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def at(cls, path: Path, *, content: str, storage: str, node: str, shared: bool = False, name: str = "") -> Self:
        """`name`: the one that `content_name` gives, if it is known already. Raises ConfigError for a file that cannot
        be read."""
        try:
            size = path.stat().st_size
        except OSError as error:
            raise ConfigError(f"cannot read {path}: {error.strerror}") from error
        return cls(path, name or content_name(path), size, content, storage, node, shared)

    @property
    def volume(self) -> str:
        return f"{self.storage}:{self.content}/{self.name}"

    @property
    def only_node(self) -> str:
        """The only node that has it; empty: all have."""
        return "" if self.shared else self.node

    @property
    def values(self) -> Mapping[str, str]:
        """What the record keeps to tell it for ours."""
        return {**self.about, "volume": self.volume, "node": self.only_node, "size": str(self.size)}

    def is_recorded(self, values: Mapping[str, str]) -> bool:
        """Do these values of a record tell it for ours?"""
        return all(values.get(name) == value for name, value in replace(self, about={}).values.items())

    def thing_name(self, profile: str) -> str:
        """What the record calls it: one name for each file and place, as a name of the record may be."""
        place = hashlib.sha256(f"{profile} {self.only_node} {self.volume}".encode()).hexdigest()[:16]
        words = re.sub(r"[^A-Za-z0-9]+", "-", self.path.stem)[:SHORT].strip("-")
        return "-".join(filter(None, (words, place)))


def content_name(path: Path) -> str:
    """`nixos.iso` becomes `nixos-0123456789abcdef.iso`: the same content never travels twice."""
    try:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from error
    except ValueError as error:  # no file of this system can have such a name
        raise ConfigError(f"{str(path)!r} cannot be a file's name: {error}") from error
    return stored_name(f"{path.stem[:STEM]}-{digest[:16]}{path.suffix}")


def refuse_ending(path: Path, content: str) -> None:
    """PVE takes files by how their names end, and says so only when all of one has been sent."""
    endings = ENDINGS[content]
    if path.suffix.lower() not in endings:
        raise ConfigError(
            f"{path.name!r} does not end as the name of such a file does", hint=f"one of {', '.join(endings)} is needed"
        )
