"""Labs and clients for the tests of the API. Nothing of the package is imported before typeguard can watch it."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from nixops_proxmox.lab.testing import RunningLab
    from tests.lab.http import Client


@pytest.fixture
def lab() -> "Iterator[RunningLab]":
    from nixops_proxmox.lab.testing import start_lab

    with start_lab() as running:
        yield running


@pytest.fixture
def api(lab: "RunningLab") -> "Iterator[Client]":
    from tests.lab.http import Client

    with Client(lab) as client:
        yield client


@pytest.fixture
def vm(api: "Client") -> int:
    """A stopped VM 100 on pve1."""
    from tests.lab.http import DISK, QEMU

    assert api.task("POST", QEMU, {"vmid": 100, **DISK})["exitstatus"] == "OK"
    return 100


@pytest.fixture
def running(api: "Client", vm: int) -> int:
    """… and started."""
    assert api.task("POST", f"/nodes/pve1/qemu/{vm}/status/start")["exitstatus"] == "OK"
    return vm
