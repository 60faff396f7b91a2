"""ISOs and images, uploaded to the lab under names that hold their content's hash."""

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.nixops4.conftest import Build
from tests.nixops4.dialogue import Provider, create, update

if TYPE_CHECKING:
    from tests.e2e.bed import Bed

pytestmark = [pytest.mark.netns]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "my installer.iso"
    path.write_bytes(b"CD001" * 1000)
    return path


def volume(path: Path, **more: Any) -> dict[str, Any]:
    return {"path": str(path), "profile": "lab", "storage": "local", **more}


def uploads(bed: "Bed") -> int:
    return sum(call["method"] == "POST" and call["path"].endswith("/upload") for call in bed.calls())


@pytest.mark.parametrize(("kind", "content", "suffix"), [("iso", "iso", ".iso"), ("image", "import", ".raw")])
def test_the_same_content_travels_once(
    bed: "Bed", provider: Provider, file: Path, kind: str, content: str, suffix: str
) -> None:
    file = file.rename(file.with_suffix(suffix))
    digest = hashlib.sha256(file.read_bytes()).hexdigest()[:16]
    outputs = {"volume": f"local:{content}/my_installer-{digest}{suffix}"}
    assert provider.ask_outputs(create(kind, volume(file), stateful=False)) == outputs
    assert provider.ask_outputs(create(kind, volume(file), stateful=True)) == outputs
    assert provider.ask_outputs(update(kind, volume(file), outputs, volume(file))) == outputs
    assert uploads(bed) == 1


def test_another_content_is_another_volume_and_the_first_one_stays(bed: "Bed", provider: Provider, file: Path) -> None:
    first = provider.ask_outputs(create("iso", volume(file)))
    file.write_bytes(b"CD001 and more")
    second = provider.ask_outputs(update("iso", volume(file), first, volume(file)))
    there = {one["volid"] for one in bed.control("GET", "state")["volumes"]}
    assert first != second and {first["volume"], second["volume"]} <= there


def test_a_storage_that_takes_it_is_found(bed: "Bed", provider: Provider, file: Path) -> None:
    assert provider.ask_outputs(create("iso", volume(file, storage=None)))["volume"].endswith(".iso")


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"path": "/nonexistent.iso"}, "cannot read /nonexistent.iso: No such file or directory"),
        ({"storage": "cellar"}, "'cellar'"),
        ({"node": "pve9"}, "pve9"),
        ({"profile": "nobody"}, "there is no profile 'nobody'"),
    ],
)
def test_what_cannot_be_uploaded_is_an_error_that_says_why(
    bed: "Bed", provider: Provider, file: Path, changed: dict[str, str], says: str
) -> None:
    assert says in provider.ask_error(create("iso", volume(file) | changed))
    assert uploads(bed) == 0


@pytest.mark.nix
def test_a_machine_is_made_of_an_image_that_was_uploaded(
    bed: "Bed", provider: Provider, build_system: Build, tmp_path: Path
) -> None:
    image, system = tmp_path / "plain.raw", build_system("1")
    image.write_bytes(b"a plain system" * 1000)
    uploaded = provider.ask_outputs(create("image", volume(image)))["volume"]
    proxmox = {
        "profile": "lab",
        "disks": [{"storage": "local-lvm", "size": "1G"}],
        "install": {"from": "image", "image": uploaded},
        "memory": 512,
        "network": [{"bridge": "vmbr0"}],
    }
    made = provider.ask_outputs(create("vm", {"name": "web", "proxmox": proxmox}))
    assert provider.ask_outputs(create("vm", {"name": "web", "proxmox": proxmox})) == made
    nixos = provider.ask_outputs(create("nixos", {"name": "web", "vm": made["uuid"], "system": system}))
    assert (nixos["system"], [nixos["sshHostKey"]]) == (system, made["sshHostKeys"])
    assert len(bed.vms()) == 1
