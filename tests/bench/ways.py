"""From a description to SSH on the final system, by each way there is: real guests, and a simulated container."""

import os
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.e2e.bed import Bed, start_bed

if TYPE_CHECKING:
    from tests.qemu.bed import GuestBed

NETWORK = """\
{
  NAME = {
    deployment.proxmox = {
      memory = 512;
      network = [ { bridge = "vmbr0"; } ];
      DISKS
      INSTALL
    };
    toplevel = import DEMO/system.nix {
      name = "NAME";
      hosts = { };
      service = { port = 80; handler = "echo NAME"; };
    };
  };
}
"""
DISKS = 'disks = [ { storage = "local-lvm"; size = "1G"; } ];'
CONTAINER = """\
      kind = "container";
      container = { template = "TEMPLATE"; root = { storage = "local-lvm"; size = "1G"; }; };
"""
ISO = 'iso = "local:iso/lab-installer.iso";'
BASE = 9000
MEANING = {
    "first_s": "the first machine of its kind: Nix has to evaluate and build its system",
    "ready_s": "the median of the others: from Enter to a `deploy` that has reached the final system through SSH",
    "prepared_s": "what is done once before: the image uploaded, or the template made of it",
}


@dataclass(frozen=True)
class Way:
    name: str
    install: str
    prepared_s: float = 0.0


def measure_ways(folder: Path, times: int, say: Callable[[str], None]) -> dict[str, Any]:
    """{"meaning", "accel", "rows": one per way}: times in seconds."""
    from tests.bench.guests import accelerator
    from tests.lab.qemu.conftest import find_obstacle
    from tests.qemu.bed import start_guest_bed

    if obstacle := find_obstacle():
        raise SystemExit(f"bench: there can be no real guests here: {obstacle}")
    rows: list[dict[str, Any]] = []
    with start_guest_bed(folder / "user") as bed:
        for number, way in enumerate(ways_of(bed)):
            say(f"{way.name}, {times} times")
            rows.append(row(way.name, measure(bed, number, way, times), way.prepared_s))
        accel = accelerator(bed)
    say(f"container (simulated), {times} times")
    with start_container_bed(folder / "containers") as (plain, network):
        rows.append(row("container (simulated)", [timed(plain, network, f"c{n}") for n in range(times)], 0.0))
    return {"cpus": os.cpu_count(), "accel": accel, "meaning": MEANING, "rows": rows}


def row(name: str, seconds: list[float], prepared: float) -> dict[str, Any]:
    first, *others = seconds
    return {
        "way": name,
        "first_s": round(first, 1),
        "ready_s": round(statistics.median(others or [first]), 1),
        "prepared_s": round(prepared, 1),
    }


def ways_of(bed: "GuestBed") -> Iterator[Way]:
    from tests.qemu.test_images import build_disk_image, upload

    yield Way("ISO, closure", f"install = {{ {ISO} }};")
    yield Way("ISO, configuration", f'install = {{ {ISO} method = "configuration"; }};')
    image = build_disk_image(bed)
    began = time.monotonic()
    volume = upload(bed, image)["volume"]
    yield Way("image", f'install = {{ from = "image"; image = "{volume}"; }};', time.monotonic() - began)
    began = time.monotonic()
    make_template(bed, str(volume))
    spent = time.monotonic() - began
    template = 'install = { from = "template"; template = "base"; FULL };'
    yield Way("template, linked clone", template.replace("FULL", ""), spent)
    yield Way("template, full clone", template.replace("FULL", "fullClone = true;"), spent)


def make_template(bed: "GuestBed", volume: str) -> None:
    """On the node where the image is."""
    from tests.e2e.test_copies import wait_for_tasks

    (node,) = [name for name in nodes(bed) if holds(bed, name, volume)][:1]
    disk = {"scsihw": "virtio-scsi-single", "scsi0": f"local-lvm:0,import-from={volume}", "boot": "order=scsi0"}
    bed.api("POST", f"/nodes/{node}/qemu", vmid=BASE, name="base", agent="1", net0="virtio,bridge=vmbr0", **disk)
    wait_for_tasks(bed, "qmcreate", BASE)
    bed.api("POST", f"/nodes/{node}/qemu/{BASE}/template")
    wait_for_tasks(bed, "qmtemplate", BASE)


def nodes(bed: Bed) -> list[str]:
    return sorted(one["node"] for one in bed.api("GET", "/nodes"))


def holds(bed: Bed, node: str, volume: str) -> bool:
    listed = bed.api("GET", f"/nodes/{node}/storage/{volume.partition(':')[0]}/content")
    return volume in [one["volid"] for one in listed]


def measure(bed: "GuestBed", number: int, way: Way, times: int) -> list[float]:
    network = NETWORK.replace("DISKS", DISKS).replace("INSTALL", way.install)
    return [timed(bed.named(f"way-{number}-{turn}", network), network, f"w{number}{turn}") for turn in range(times)]


def timed(bed: Bed, network: str, name: str) -> float:
    """One machine from nothing to ready, in a deployment of its own; then it is destroyed."""
    from tests.e2e.bed import DEMO

    bed.network.parent.mkdir(exist_ok=True, parents=True)
    bed.network.write_text(network.replace("NAME", name).replace("DEMO", str(DEMO)))
    began = time.monotonic()
    bed.run("deploy")
    seconds = time.monotonic() - began
    (machine,) = bed.status()
    if machine["phase"] != "ready":
        raise SystemExit(f"bench: {name} is {machine['phase']}")
    bed.run("destroy", "--yes")
    return seconds


@contextmanager
def start_container_bed(folder: Path) -> Iterator[tuple[Bed, str]]:
    from tests.lab.test_containers import write_archive

    folder.mkdir()
    template = folder / "nixos.tar.gz"
    write_archive(template, ("etc/ssh", "nix/store", "root", "sbin"))
    network = NETWORK.replace("DISKS", "").replace("INSTALL", CONTAINER.replace("TEMPLATE", str(template)))
    with start_bed(folder / "user", folder / "shop" / "network.nix") as bed:
        yield bed, network


def ways_summary(result: Mapping[str, Any]) -> list[str]:
    """A line for each way, for people."""
    return [
        f"{row['way']}: {row['ready_s']} s to SSH on the final system (the first one {row['first_s']} s"
        + (f", and {row['prepared_s']} s once before it)" if row["prepared_s"] else ")")
        for row in result["rows"]
    ]
