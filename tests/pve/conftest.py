"""What the client's tests share. Imports of the package wait until typeguard has seen it."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from nixops_proxmox.pve.api.client import PveClient
    from tests.pve.clients import Clients
    from tests.pve.stub import Stub


@pytest.fixture
def clients() -> Iterator["Clients"]:
    from tests.pve.clients import Clients

    factory = Clients()
    yield factory
    for client in factory.made:
        client.close()


@pytest.fixture
def client(stub: "Stub", clients: "Clients") -> "PveClient":
    return clients(stub)
