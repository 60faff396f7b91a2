"""A guest's disk as a stack of sizes, told as the real tools tell it, and grown by the markers of our scripts. A layer
takes what the layer below it has, and nothing by itself."""

import json
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from nixops_proxmox.guest.layout import HEADER, TOOLS
from nixops_proxmox.model import Completed

MIB = 1 << 20
GIB = 1 << 30
EXTENT = 4 * MIB
OFFSET = 16 * MIB  # of LUKS 2


@dataclass
class ModelDisk:
    """`layers`: of what lies on the disk, from the bottom: part, luks, lvm, and a file system's kind."""

    layers: Sequence[str]
    size: int = 20 * GIB
    sizes: dict[str, int] = field(default_factory=dict)
    behind: tuple[str, int] | None = None  # another partition behind ours: what it holds, and its size
    more: dict[str, str] = field(default_factory=dict)  # other logical volumes: what they hold
    lacks: tuple[str, ...] = ()  # tools
    failing: dict[str, str] = field(default_factory=dict)  # by marker: what it says on stderr
    lying: tuple[str, ...] = ()  # markers that end well and do nothing
    seen: int | None = None  # what the kernel knows of the disk; None: all of it
    mounted: bool = True
    udev: bool = True  # without it, lsblk does not know what is on a device; blkid does
    table: str = "gpt"
    calls: list[str] = field(default_factory=list)
    stop_after: int = -1  # the connection breaks after so many acts

    def __post_init__(self) -> None:
        for layer in self.layers:
            self.sizes[layer] = self.room(layer)

    @property
    def end(self) -> int:
        return (self.seen or self.size) - MIB - (self.behind[1] if self.behind else 0)

    def room(self, layer: str) -> int:
        """What the layer could have, with what is below it as it is."""
        index = list(self.layers).index(layer)
        below = self.sizes[self.layers[index - 1]] if index else (self.seen or self.size)
        if layer == "part":
            return self.end - MIB
        if layer == "luks":
            return below - OFFSET
        if layer in ("pv", "lv"):
            return (below - MIB) // EXTENT * EXTENT if layer == "pv" else below
        return below

    def run(self, script: str) -> Completed:
        marker = shlex.split(script.partition("\n")[0].removeprefix("# nixops-proxmox: "))
        if marker[0] == "grow-look":
            return Completed(0, self.told())
        if len(self.calls) == self.stop_after:
            raise ConnectionResetError
        self.calls.append(" ".join(marker))
        if marker[0] in self.failing:
            return Completed(1, "", self.failing[marker[0]])
        names = {"grow-partition": "part", "grow-luks": "luks", "grow-pv": "pv", "grow-lv": "lv"}
        layer = names.get(marker[0], self.layers[-1])
        if marker[0] not in self.lying:
            self.sizes[layer] = self.room(layer)
        return Completed(0)

    def told(self) -> str:
        mounts = [{"target": "/", "fstype": self.fs, "size": str(int(self.sizes[self.layers[-1]] * 0.97))}]
        top = self.disk()
        probes = [] if self.udev else list(_probe(top))
        sections: dict[str, Any] = {
            "lsblk": {"blockdevices": [top]},
            "mounts": {"filesystems": mounts if self.mounted else []},
        }
        if "part" in self.layers:
            sections["table sda"] = {"partitiontable": {"sectorsize": 512, "partitions": self.partitions()}}
        if "pv" in self.layers:
            sections["pvs"] = {"report": [{"pv": [self.physical()]}]}
            lvs = ("root", *self.more)
            sections["lvs"] = {"report": [{"lv": [self.logical(name) for name in lvs]}]}
        parts = [f"{HEADER} {name}\n{json.dumps(value)}" for name, value in sections.items()]
        parts += ["\n".join([f"{HEADER} probes", *probes])]
        parts += [f"{HEADER} luks\ncryptroot {OFFSET // 512}"]
        parts += [f"{HEADER} swaps\nFilename Type Size Used Priority", *self.swaps()]
        if self.fs == "zfs_member":
            parts += [f"{HEADER} zpools\ntank {self.room(self.fs) - self.sizes[self.fs]}"]
        tools = "\n".join(tool for tool in TOOLS if tool not in self.lacks)
        return "\n".join([*parts, f"{HEADER} tools", tools, f"{HEADER} end", ""])

    @property
    def fs(self) -> str:
        return self.layers[-1]

    def swaps(self) -> list[str]:
        return [f"/dev/sda1 partition {self.sizes['swap'] // 1024} 0 -2"] if self.fs == "swap" else []

    def physical(self) -> dict[str, str]:
        below = self.sizes[self.layers[list(self.layers).index("pv") - 1]]
        return {
            "pv_name": "/dev/mapper/cryptroot" if "luks" in self.layers else "/dev/sda1",
            "vg_name": "vg",
            "pv_size": str(self.sizes["pv"]),
            "dev_size": str(below),
            "pe_start": str(MIB),
            "vg_extent_size": str(EXTENT),
            "vg_free": str(self.sizes["pv"] - self.sizes["lv"]),
        }

    def logical(self, name: str) -> dict[str, str]:
        return {"lv_name": name, "vg_name": "vg", "lv_dm_path": f"/dev/mapper/vg-{name}", "segtype": "linear"}

    def partitions(self) -> list[dict[str, Any]]:
        rows = [{"node": "/dev/sda1", "start": MIB // 512, "size": self.sizes["part"] // 512}]
        if self.behind:
            start = (self.size - MIB - self.behind[1]) // 512
            kind = "6A945A3B-1DD2-11B2-99A6-080020736631" if self.behind[0] == "reserved" else "0FC63DAF"
            rows.append({"node": "/dev/sda2", "start": start, "size": self.behind[1] // 512, "type": kind})
        return rows

    def disk(self) -> dict[str, Any]:
        top = self.block("sda", "disk", self.seen or self.size)
        layers = list(self.layers)
        names = {"part": ("sda1", "part"), "luks": ("cryptroot", "crypt"), "lv": ("vg-root", "lvm")}
        node, held = top, [layer for layer in layers if layer not in ("part",)]
        if layers[0] == "part":
            top["pttype"] = self.table
            node = self.child(top, *names["part"], self.sizes["part"])
        for layer in held:
            if layer == "luks":
                node["fstype"] = "crypto_LUKS"
                node = self.child(node, *names["luks"], self.sizes["luks"])
            elif layer == "pv":
                node["fstype"] = "LVM2_member"
            elif layer == "lv":
                for name, holds in self.more.items():
                    self.child(node, f"vg-{name}", "lvm", GIB)["fstype"] = holds
                node = self.child(node, *names["lv"], self.sizes["lv"])
            else:
                mounted = self.mounted and layer not in ("swap", "zfs_member")
                node.update(fstype=layer, label="tank", mountpoints=["/nix/store", "/"] if mounted else [None])
        if self.behind:
            holds = "" if self.behind[0] == "reserved" else self.behind[0]
            self.child(top, "sda2", "part", self.behind[1])["fstype"] = holds
        return top

    def block(self, name: str, kind: str, size: int) -> dict[str, Any]:
        return {"name": name, "type": kind, "size": size, "fstype": None, "label": None, "pttype": None}

    def child(self, node: dict[str, Any], name: str, kind: str, size: int) -> dict[str, Any]:
        made = self.block(name, kind, size)
        node.setdefault("children", []).append(made)
        return made


def _probe(block: dict[str, Any]) -> Iterator[str]:
    """What lsblk does not tell, as blkid does."""
    for key, word in (("fstype", "TYPE"), ("pttype", "PTTYPE"), ("label", "LABEL")):
        if block[key]:
            yield f"{block['name']} {word}={block[key]}"
            block[key] = None
    for child in block.get("children", ()):
        yield from _probe(child)
