"""The pool that a VM is in: the one that is described, if one is. Pools carry rights, so none is left on the way."""

from collections.abc import Callable, Iterator
from contextlib import suppress

from nixops_proxmox.errors import NotFound, PveRefused
from nixops_proxmox.model import Change, Vm
from nixops_proxmox.pve.api.client import PveClient
from nixops_proxmox.pve.api.versions import Release
from nixops_proxmox.pve.cluster.view import VIEW_AGE, ClusterView
from nixops_proxmox.spec import MachineSpec

MEMBER = "already a pool member"  # somebody else was faster


class Pools:
    """The pools of one cluster."""

    def __init__(self, client: PveClient, view: ClusterView, release: Callable[[], Release]) -> None:
        self._client, self._view, self._release = client, view, release

    def find_change(self, vm: Vm, spec: MachineSpec) -> Iterator[Change]:
        """Nothing where no pool is described, or where the VM is too new to be seen."""
        guest = self._view.get(VIEW_AGE).guests.get(vm.vmid) if spec.pool else None
        if spec.pool is None or guest is None or guest.pool == spec.pool:
            return
        forbidden, remedy = "", ""
        if guest.pool and not self._release().can_move_between_pools:
            forbidden = "before 8.1, PVE has no call that moves a VM from one pool to another"
            leave = f"pvesh set /pools/{guest.pool} --vms {vm.vmid} --delete 1"
            remedy = f"`{leave}`, then `pvesh set /pools/{spec.pool} --vms {vm.vmid}` on a node, as root"
        yield Change("pool", guest.pool, spec.pool, forbidden=forbidden, remedy=remedy)

    def apply(self, vm: Vm, spec: MachineSpec) -> None:
        """Put the VM into the described pool, if it is not there."""
        for change in self.find_change(vm, spec):
            if change.forbidden:
                return
            try:
                self._client.put_into_pool(change.want, vm.vmid, move=bool(change.have))
            except PveRefused as error:
                if MEMBER not in error.message:
                    raise
            finally:
                self._view.get(0.0)  # the next look must not see the old pool


class PoolStore:
    """Pools that are made and removed. Satisfies `kinds.pool.kind.PoolStore`."""

    def __init__(self, client: PveClient) -> None:
        self._client = client

    def find_comment(self, pool: str, /) -> str | None:
        """PVE checks the right to see a pool first, so that "does not exist" is certain."""
        try:
            return self._client.get_pool(pool).comment
        except NotFound:
            return None

    def members(self, pool: str, /) -> tuple[str, ...]:
        return self._client.get_pool(pool).members

    def create(self, pool: str, comment: str, /) -> None:
        self._client.create_pool(pool, comment)

    def set_comment(self, pool: str, comment: str, /) -> None:
        self._client.set_pool_comment(pool, comment)

    def delete(self, pool: str, /) -> None:
        with suppress(NotFound):
            self._client.delete_pool(pool)
