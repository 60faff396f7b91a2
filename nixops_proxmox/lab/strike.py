"""What a fault does to the cluster when it strikes."""

import asyncio
import re
from collections.abc import Callable
from functools import partial

from nixops_proxmox.lab.call import Call
from nixops_proxmox.lab.cluster import Cluster
from nixops_proxmox.lab.faults import Fault
from nixops_proxmox.lab.tasks import Fate
from nixops_proxmox.lab.vm import Vm
from nixops_proxmox.lab.vms.ha import wake


def _later(cluster: Cluster, seconds: float, undo: Callable[[], None]) -> None:
    """Undo after a while; 0 seconds: never."""
    if seconds <= 0:
        return

    async def wait() -> None:
        await cluster.clock.sleep(seconds)
        undo()

    task = asyncio.get_running_loop().create_task(wait())
    cluster.undoing.add(task)
    task.add_done_callback(cluster.undoing.discard)


class _Unlock:
    def __init__(self, vm: Vm) -> None:
        self._vm = vm

    def __call__(self) -> None:
        self._vm.config.pop("lock", None)


def _vm(cluster: Cluster, fault: Fault, path: str) -> Vm | None:
    found = re.search(r"/(?:qemu|lxc)/(\d+)", path)
    vmid = int(fault.target) if fault.target.isdigit() else int(found[1]) if found else 0
    return cluster.vms.get(vmid)


async def strike_before(cluster: Cluster, fault: Fault, path: str) -> None:
    """Faults of the cluster itself: they happen before the call is looked at."""
    match fault.action:
        case "lock_vm":
            if vm := _vm(cluster, fault, path):
                vm.config["lock"] = fault.text or "backup"
                _later(cluster, fault.seconds, _Unlock(vm))
        case "flock_vm":
            if vm := _vm(cluster, fault, path):
                await vm.flock.acquire()
                _later(cluster, fault.seconds or 60, vm.flock.release)
        case "lock_storage":
            storage = cluster.stores.get(fault.target)
            await storage.busy.acquire()
            _later(cluster, fault.seconds or 60, storage.busy.release)
        case "lose_node":
            cluster.set_online(fault.target, online=False)
            wake(cluster)
            _later(cluster, fault.seconds, lambda: cluster.set_online(fault.target, online=True))
        case "no_quorum":
            cluster.quorate = False
            _later(cluster, fault.seconds, lambda: setattr(cluster, "quorate", True))
        case "agent_silent":
            if vm := _vm(cluster, fault, path):
                vm.agent_silent = fault.count
        case "agent_frozen":
            if vm := _vm(cluster, fault, path):
                vm.agent_frozen = True
                _later(cluster, fault.seconds, partial(setattr, vm, "agent_frozen", False))
        case _:
            pass


def strike_after(cluster: Cluster, struck: list[Fault], call: Call) -> Fate | None:
    """Faults that need the checked call: a stolen id, and the fate of the task it starts."""
    fate: Fate | None = None
    for fault in struck:
        match fault.action:
            case "steal_vmid":
                vmid = int(call.get("newid") or call.get("vmid") or 0)
                if vmid and vmid not in cluster.vms:
                    thief = cluster.claim(vmid, fault.target or next(iter(cluster.nodes)), lock="")
                    thief.config = {"name": "somebody-elses", "memory": "512", "smbios1": f"uuid={cluster.new_uuid()}"}
            case "kill_task":
                fate = Fate("kill", after=fault.seconds)
            case "fail_task":
                fate = Fate("fail", fault.text or "injected failure", late=fault.late)
            case "warn_task":
                fate = Fate("warn", fault.text)
            case _:
                pass
    return fate
