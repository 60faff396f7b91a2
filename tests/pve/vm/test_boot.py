"""Into the installer and out of it again, without touching what others put into the VM."""

import pytest

from nixops_proxmox.errors import SpecError
from nixops_proxmox.pve.vm.boot import SPARE, boots_cd, enter_calls, leave_calls
from nixops_proxmox.pve.wire.calls import Value
from nixops_proxmox.spec import InstallSpec, MachineSpec
from tests.pve.specs import ISO, spec, vm_of

INSERTED = f"{ISO},media=cdrom"
CLOUD = "local-lvm:vm-101-cloudinit,media=cdrom,size=4M"
COPY = spec(install=InstallSpec.model_validate({"from": "template", "template": "9000", "iso": ISO}))
TRAY = {"ide2": "none,media=cdrom"}


@pytest.mark.parametrize(
    ("described", "config", "slot"),
    [
        pytest.param(spec(), TRAY, "ide2", id="our own tray"),
        pytest.param(spec(), {"ide2": None}, "ide2", id="nothing there"),
        pytest.param(spec(), {"ide2": CLOUD}, "ide0", id="a cloud-init drive by hand"),
        pytest.param(COPY, {"ide2": CLOUD}, "ide0", id="a template's cloud-init drive"),
        pytest.param(COPY, TRAY, "ide0", id="a template's tray"),
        pytest.param(spec(), {"ide2": "local:iso/tools.iso,media=cdrom"}, "ide0", id="somebody's own CD"),
        pytest.param(spec(), {**TRAY, "boot": "order=ide2;scsi0"}, "ide0", id="the user's order has the CD first"),
        pytest.param(spec(extra={"ide0": "local-lvm:cloudinit"}), {"ide2": CLOUD}, "ide1", id="one that is described"),
        pytest.param(spec(), {"ide2": CLOUD, "ide0": CLOUD, "machine": "q35"}, "sata5", id="q35 has two such ports"),
        pytest.param(spec(), {"ide2": CLOUD, "ide3": INSERTED}, "ide3", id="where it is already"),
    ],
)
def test_the_installer_takes_a_free_slot_and_all_is_as_it_was_when_it_leaves(
    described: MachineSpec, config: dict[str, str | None], slot: str
) -> None:
    before = dict(vm_of(described, {"boot": "order=scsi0", **config}).config)
    drive, order = enter_calls(vm_of(described, {"boot": "order=scsi0", **config}), described)
    assert drive == {slot: INSERTED}
    inside = before | texts(drive) | texts(order)
    assert boots_cd(inside)
    drive, order = leave_calls(vm_of(described, {**dict.fromkeys(before), **inside}), described)
    after = inside | texts(order) | texts(drive)
    for gone in after.pop("delete", "").split(","):
        after.pop(gone, None)
    assert not boots_cd(after)
    assert after == before | ({} if slot in before or slot != "ide2" else TRAY) or before.get(slot) == INSERTED


def texts(params: dict[str, Value]) -> dict[str, str]:
    return {key: str(value) for key, value in params.items()}


@pytest.mark.parametrize("order", ["order=scsi0;net0", "order=net0;scsi0", "order=ide2;scsi0;net0"])
def test_the_users_own_order_comes_back(order: str) -> None:
    vm = vm_of(spec(), {**TRAY, "boot": order})
    drive, inside = enter_calls(vm, spec())
    merged = texts(drive) | texts(inside)
    assert merged["boot"] == f"order={next(iter(drive))};{order.removeprefix('order=')}"
    assert leave_calls(vm_of(spec(), {**TRAY, "boot": order, **merged}), spec())[1] == {"boot": order}


def test_a_disk_is_booted_whatever_the_order_was() -> None:
    assert leave_calls(vm_of(spec()), spec()) == (TRAY, {"boot": "order=scsi0"})
    assert leave_calls(vm_of(spec(), {"boot": "order=ide2;net0"}), spec())[1] == {"boot": "order=net0;scsi0"}


def test_what_a_run_left_half_way_is_taken_out() -> None:
    half = vm_of(spec(), {"boot": "order=scsi0", "ide2": CLOUD, "ide0": INSERTED})
    assert leave_calls(half, spec()) == ({"delete": "ide0"}, {"boot": "order=scsi0"})


def test_a_vm_without_a_free_slot_or_an_installer_is_refused() -> None:
    full = vm_of(spec(), dict.fromkeys(SPARE, CLOUD))
    with pytest.raises(SpecError, match="no free slot"):
        enter_calls(full, spec())
    without = spec(install=InstallSpec.model_validate({"from": "image", "image": "local:import/a.qcow2"}))
    with pytest.raises(SpecError, match="no installer"):
        enter_calls(vm_of(without), without)
