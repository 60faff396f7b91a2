"""Deleting an uploaded file, with the real client on the lab."""

import uuid
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.contract.client_bench import Bench


def test_an_upload_is_deleted_unless_a_vm_has_it_inserted(bench: "Bench", tmp_path: Path) -> None:
    from nixops_proxmox.errors import StateError
    from nixops_proxmox.operations.uploads import Uploads
    from nixops_proxmox.operations.volumes import Volumes
    from nixops_proxmox.state import open_state
    from tests.contract.client_bench import bare

    iso = tmp_path / "nixos.iso"
    iso.write_bytes(uuid.uuid4().bytes)
    media = bench.hypervisor.media
    with open_state(str(tmp_path / "state.sqlite")) as state:
        record = state.deployment("demo")
        put = Volumes(bench.hypervisor, "lab", record).put(iso, "iso", storage="local", node="pve1")
        machine = bench.created(bare())
        bench.hypervisor.client.set_config(
            machine.facts.node, machine.facts.vmid, {"ide2": f"{put.volume},media=cdrom"}
        )
        uploads = Uploads(bench.hypervisor, "lab", [record])
        upload = uploads.find(put.volume, "iso")
        with pytest.raises(StateError, match=f"inserted in VM {machine.facts.vmid}"):
            uploads.remove(upload)
        assert put.volume in media.sizes("pve1", "local", "iso")
        bench.hypervisor.client.set_config(machine.facts.node, machine.facts.vmid, {"ide2": "none,media=cdrom"})
        uploads.remove(uploads.find(put.volume, "iso"))
        assert put.volume not in media.sizes("pve1", "local", "iso")
        assert [one.outcome.value for one in record.history()] == ["done", "failed", "done"]
        assert record.stored("medium") == []


def test_a_file_is_put_on_each_node_that_does_not_share_the_storage_once(bench: "Bench", tmp_path: Path) -> None:
    from nixops_proxmox.operations.volumes import Volumes

    iso = tmp_path / "nixos.iso"
    iso.write_bytes(uuid.uuid4().bytes)
    volumes = Volumes(bench.hypervisor, "lab")
    volumes.put(iso, "iso", storage="local", node="pve2")
    puts = volumes.put_on_each(iso, "iso", storage="local")
    assert [(put.node, put.uploaded) for put in puts] == [("pve1", True), ("pve2", False), ("pve3", True)]
    assert len({put.volume for put in puts}) == 1
    for node in ("pve1", "pve2", "pve3"):
        assert puts[0].volume in bench.hypervisor.media.sizes(node, "local", "iso")
    assert [put.uploaded for put in volumes.put_on_each(iso, "iso", storage="local")] == [False] * 3


def test_a_node_that_lacks_the_storage_is_named_before_anything_is_sent(bench: "Bench", tmp_path: Path) -> None:
    from nixops_proxmox.errors import NotFound
    from nixops_proxmox.operations.volumes import Volumes

    iso = tmp_path / "nixos.iso"
    iso.write_bytes(uuid.uuid4().bytes)
    stores = bench.lab.cluster.stores
    before = stores.storages["local"]
    bench.change(lambda: stores.storages.update(local=replace(before, nodes=("pve1", "pve2"))))
    try:
        with pytest.raises(NotFound, match="pve3 has no storage local that is active"):
            Volumes(bench.another(), "lab").put_on_each(iso, "iso", storage="local")
    finally:
        bench.change(lambda: stores.storages.update(local=before))


def test_a_file_that_would_fill_a_nodes_root_is_not_sent(bench: "Bench", tmp_path: Path) -> None:
    from nixops_proxmox.errors import PveRefused
    from nixops_proxmox.operations.volumes import Volumes

    iso = tmp_path / "nixos.iso"
    iso.write_bytes(uuid.uuid4().bytes)
    node = bench.lab.cluster.nodes["pve2"]
    before = node.disk
    bench.change(lambda: setattr(node, "disk", 8 << 30))  # the lab's nodes use that much
    try:
        with pytest.raises(PveRefused, match="root file system of pve2 has 0 MiB left"):
            Volumes(bench.hypervisor, "lab").put(iso, "iso", storage="local", node="pve2")
    finally:
        bench.change(lambda: setattr(node, "disk", before))
    assert Volumes(bench.hypervisor, "lab").put(iso, "iso", storage="local", node="pve2").uploaded


def test_where_no_storage_takes_images_the_error_says_which_release_does(bench: "Bench", tmp_path: Path) -> None:
    from nixops_proxmox.errors import NotFound
    from nixops_proxmox.operations.volumes import Volumes

    image = tmp_path / "nixos.qcow2"
    image.write_bytes(uuid.uuid4().bytes)
    stores = bench.lab.cluster.stores
    before = stores.storages["local"]
    bench.change(lambda: stores.storages.update(local=replace(before, content=("iso",))))
    try:
        with pytest.raises(NotFound) as refused:
            Volumes(bench.another(), "lab").put(image, "import")
    finally:
        bench.change(lambda: stores.storages.update(local=before))
    assert "from 8.4 on" in refused.value.hint
