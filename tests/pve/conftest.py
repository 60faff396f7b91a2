"""What the client's tests share. Imports of the package wait until typeguard has seen it."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from tests.pve.stub import Certificates, Stub, make_certificates, start_stub

if TYPE_CHECKING:
    from nixops_proxmox.pve.client import PveClient
    from tests.pve.clients import Clients


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture
def stub(certificates: Certificates) -> Iterator[Stub]:
    with start_stub(certificates) as server:
        yield server


@pytest.fixture
def clients() -> Iterator["Clients"]:
    from tests.pve.clients import Clients

    factory = Clients()
    yield factory
    for client in factory.made:
        client.close()


@pytest.fixture
def client(stub: Stub, clients: "Clients") -> "PveClient":
    return clients(stub)
