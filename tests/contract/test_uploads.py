"""Deleting an uploaded file, with the real client on the lab."""

import uuid
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
