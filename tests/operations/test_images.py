"""Images that are files here, on storages in memory and with a real state: sent once, recorded, deleted when unused."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from nixops_proxmox.errors import ConfigError, NotFound, SpecError
from nixops_proxmox.model import Facts, Machine
from nixops_proxmox.operations.images import DiskImages
from nixops_proxmox.options import Silent
from nixops_proxmox.pve.api.answers import StorageSeen
from nixops_proxmox.spec import ContainerSpec, InstallSpec, MachineKind, MachineSpec, NetworkSpec
from nixops_proxmox.spec.storage import StorageSpec, with_image_storage
from nixops_proxmox.state import Deployment, open_state
from tests.clocks import SteppedClock
from tests.kinds.machine.cluster import SPEC
from tests.operations.test_volumes import Hypervisor

LOCAL = StorageSeen("local", "pve1", True, False, frozenset({"iso", "import", "vztmpl"}), total=100)
OTHER = replace(LOCAL, storage="nfs", node="pve1", shared=True, content=frozenset({"iso"}))
NAME = "plain-84d89877f0d4041e.raw"


def of(image: str, name: str = "web", **install: object) -> MachineSpec:
    told = {"from": "image", "image": image, **install}
    return SPEC.model_copy(update={"name": name, "install": InstallSpec.model_validate(told)})


def container(template: str, name: str = "web", **inside: object) -> MachineSpec:
    root = {"storage": "local-lvm", "size": 1 << 30}
    told = ContainerSpec.model_validate({"template": template, "root": root, **inside})
    return SPEC.model_copy(update={"name": name, "kind": MachineKind.CONTAINER, "container": told, "disks": ()})


@dataclass
class Bench:
    """One deployment, its cluster, and a folder with an image."""

    record: Deployment
    folder: Path
    hypervisor: Hypervisor = field(default_factory=lambda: Hypervisor(places=(LOCAL, OTHER)))
    built: list[str] = field(default_factory=list)
    described: tuple[MachineSpec, ...] = (of("plain.raw"),)
    resources: tuple[StorageSpec, ...] = ()

    def images(self, lease: Any = None) -> DiskImages:
        network = NetworkSpec(name="demo", machines=self.described, resources=self.resources)
        return DiskImages(
            self.record,
            network,
            lambda _: self.hypervisor,
            self.built.append,
            self.folder,
            SteppedClock(),
            Silent(),
            lease,
        )

    def put(self, spec: MachineSpec) -> str:
        machine = Machine("demo", spec.name, facts=Facts(node="pve1"))
        with self.record.lease() as lease:
            made = self.images(lease).put(machine, spec)
        return (made.install.image if made.container is None else made.container.template) or ""


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    (tmp_path / "plain.raw").write_bytes(b"0123456789")
    with open_state(str(tmp_path / "state.sqlite")) as state:
        yield Bench(state.deployment("demo"), tmp_path)


def test_an_image_is_sent_once_for_all_machines_and_deploys(bench: Bench) -> None:
    names = {bench.put(of("plain.raw", name)) for name in ("web", "db", "web")}
    assert names == {f"local:import/{NAME}"} and bench.hypervisor.storage.uploads == 1
    (stored,) = bench.record.stored("medium")
    assert (stored.phase, stored.facts["values"]["purpose"]) == ("present", "machines")
    assert bench.built == ["web", "db", "web"], "what Nix builds was not asked for"


def test_a_part_of_an_image_is_sent_again(bench: Bench) -> None:
    volume = bench.put(of("plain.raw"))
    bench.hypervisor.storage.files[volume] = 3
    assert bench.put(of("plain.raw")) == volume
    assert bench.hypervisor.storage.files == {volume: 10} and bench.hypervisor.storage.uploads == 2


def test_a_volume_stays_as_it_is_said(bench: Bench) -> None:
    assert bench.put(of("local:import/nixos.qcow2")) == "local:import/nixos.qcow2"
    assert not bench.hypervisor.storage.uploads and not bench.built


def test_what_will_be_sent_is_told_before(bench: Bench) -> None:
    spec = of("plain.raw")
    assert bench.images().foresee(spec, "pve1") == (f"upload the image {NAME} (1 MiB) to local on pve1",)
    bench.put(spec)
    assert bench.images().foresee(spec, "pve1") == (f"the image {NAME} (1 MiB) is on local on pve1 already",)


@pytest.mark.parametrize(
    ("spec", "error", "said"),
    [
        (of("absent.raw"), ConfigError, r"web\.deployment\.proxmox\.install\.image: there is no file"),
        (of("plain.raw", image_storage="nfs"), ConfigError, "the storage nfs does not take images"),
        (
            of("plain.raw").model_copy(update={"disks": (SPEC.disks[0].model_copy(update={"size": 1 << 20}),)}),
            SpecError,
            "scsi0 has 1M, and the image",
        ),
    ],
)
def test_an_image_that_no_machine_can_be_made_of_is_refused_before_anything_is_made(
    bench: Bench, spec: MachineSpec, error: type[Exception], said: str
) -> None:
    with (bench.folder / "plain.raw").open("r+b") as file:
        file.truncate(2 << 20)
    with pytest.raises(error, match=said):
        bench.images().check(spec)
    assert not bench.hypervisor.storage.uploads


def test_a_storage_that_is_described_to_take_images_is_believed(bench: Bench) -> None:
    described = StorageSpec(name="nfs", content=("import",))
    spec = with_image_storage(of("plain.raw"), [described])
    assert spec.install.image_storage == "nfs" and described.is_wanted_by(spec)
    bench.resources = (described,)
    bench.images().check(spec)
    with pytest.raises(NotFound, match="the storage 'elsewhere'"):
        bench.put(of("plain.raw", image_storage="elsewhere"))


def test_an_image_that_nothing_needs_is_deleted_and_no_other_is(bench: Bench) -> None:
    (bench.folder / "new.raw").write_bytes(b"9876543210")
    old, new = bench.put(of("plain.raw")), bench.put(of("new.raw"))
    bench.hypervisor.storage.files["local:import/theirs.raw"] = 5
    assert bench.images().unused() and bench.images().unused()[0].medium.volume == new
    bench.described = (of("new.raw"),)
    (unused,) = bench.images().unused()
    assert unused.told == f"{old} on pve1"
    with bench.record.lease() as lease:
        bench.images(lease).remove(unused)
    assert set(bench.hypervisor.storage.files) == {new, "local:import/theirs.raw"}
    assert [one.facts["values"]["volume"] for one in bench.record.stored("medium")] == [new]


def test_nothing_is_deleted_while_a_described_image_cannot_be_read(bench: Bench) -> None:
    bench.put(of("plain.raw"))
    (bench.folder / "plain.raw").unlink()
    assert bench.images().unused() == []


BUILT = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa-tarball"


@pytest.mark.parametrize("place", ["nixos.tar.xz", f"{BUILT}/tarball/nixos.tar.xz"])
def test_a_template_is_sent_once_and_deleted_when_no_container_is_made_of_it(bench: Bench, place: str) -> None:
    file = bench.folder / place
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(b"0123456789")
    named = place.partition("/")[0]  # what Nix builds is a folder
    bench.described = (container(named),)
    bench.images().check(container(named))
    (told,) = bench.images().foresee(container(named), "pve1")
    volume = bench.put(container(named))
    assert volume == "local:vztmpl/nixos-84d89877f0d4041e.tar.xz" == bench.put(container(named, "db"))
    assert told == f"upload the template {volume.partition('/')[2]} (1 MiB) to local on pve1"
    assert (bench.hypervisor.storage.uploads, bench.built[-1]) == (1, "db"), "what Nix builds was not asked for"
    assert bench.images().unused() == []
    bench.described = (container("local:vztmpl/nixos.tar.xz"),)
    (unused,) = bench.images().unused()
    with bench.record.lease() as lease:
        bench.images(lease).remove(unused)
    assert bench.hypervisor.storage.files == {} and not list(bench.record.stored("medium"))


TEMPLATE = r"web\.deployment\.proxmox\.container\.template: "
NO_TEMPLATES = {
    "there is no file": container("absent.tar.xz"),
    "must have exactly one template of containers, and has none": container("folder"),
    "does not end as the name of a container template does": container("plain.raw"),
}


@pytest.mark.parametrize("said", NO_TEMPLATES)
def test_what_is_no_template_is_refused_before_anything_is_made(bench: Bench, said: str) -> None:
    (bench.folder / "folder").mkdir()
    with pytest.raises(ConfigError, match=TEMPLATE + f".*{said}"):
        bench.images().check(NO_TEMPLATES[said])
    assert not bench.hypervisor.storage.uploads


def test_a_storage_for_a_template_must_take_templates(bench: Bench) -> None:
    (bench.folder / "nixos.tar.xz").write_bytes(b"0123456789")
    spec = container("nixos.tar.xz", storage="nfs")
    with pytest.raises(ConfigError, match=r"container\.storage: the storage nfs does not take templates"):
        bench.images().check(spec)
    bench.resources = (StorageSpec(name="nfs", content=("vztmpl",)),)
    assert bench.resources[0].is_wanted_by(spec)
    bench.images().check(spec)
