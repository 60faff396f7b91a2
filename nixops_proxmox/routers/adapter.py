"""requests' own connections, with the trust that those to hypervisors have."""

import ssl
from typing import Any

from requests.adapters import HTTPAdapter
from typing_extensions import override
from urllib3.poolmanager import PoolManager

from nixops_proxmox.pve.wire.tls import IDLE, fresh_pools, trust


class TrustingAdapter(HTTPAdapter):
    """For one server, without a proxy."""

    def __init__(self, context: ssl.SSLContext, fingerprint: str) -> None:
        self._tls = trust(context, fingerprint)
        super().__init__(pool_connections=1, pool_maxsize=1, max_retries=0)

    @override
    def init_poolmanager(self, connections: int, maxsize: int, block: bool = False, **kwargs: Any) -> None:
        self.poolmanager: Any = PoolManager(num_pools=connections, maxsize=maxsize, block=block, **self._tls, **kwargs)
        self.poolmanager.pool_classes_by_scheme = fresh_pools(IDLE)

    @override
    def close(self) -> None:
        """Now: urllib3 leaves it to the garbage collector, which an exception's traceback can hold up."""
        for key in self.poolmanager.pools.keys():  # noqa: SIM118  # not a dict, and cannot be iterated
            pool = self.poolmanager.pools.get(key)
            if pool is not None:
                pool.close()
        super().close()

    @override
    def build_connection_pool_key_attributes(self, request: Any, verify: Any, cert: Any = None) -> Any:
        host, _tls = super().build_connection_pool_key_attributes(request, verify, cert)
        return host, {}  # the trust is in our context; requests' own would override it

    @override
    def cert_verify(self, conn: Any, url: Any, verify: Any, cert: Any) -> None:
        """Nothing: requests would load its own CA bundle over our context."""
