"""One look at the cluster that serves all machines of a fleet: cached with an age, asked once for all threads."""

import threading
import time
from collections.abc import Callable

from nixops_proxmox.pve.api.answers import ClusterResources
from nixops_proxmox.pve.api.client import PveClient

VIEW_AGE = 15.0  # seconds that one look at the cluster serves; what we did ourselves since is laid over it


class ClusterView:
    def __init__(self, client: PveClient, clock: Callable[[], float] = time.monotonic) -> None:
        self._client, self._clock = client, clock
        self._lock = threading.Lock()
        self._last: ClusterResources | None = None

    def get(self, max_age: float) -> ClusterResources:
        """Not older than `max_age` seconds."""
        return self.get_since(self._clock() - max_age)

    def get_since(self, moment: float) -> ClusterResources:
        """Taken after that moment. A thread that waits for another thread's question takes its answer."""
        with self._lock:
            if self._last is None or self._last.taken < moment:
                self._last = self._client.get_resources(self._clock())  # stamped before asking: never too young
            return self._last
