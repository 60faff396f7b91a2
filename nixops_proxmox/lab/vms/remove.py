"""Deleting a VM and what belongs to it."""

from nixops_proxmox.lab.access import Auth
from nixops_proxmox.lab.cluster import Cluster
from nixops_proxmox.lab.refusals import Refused, die
from nixops_proxmox.lab.replication import refuse_replicated
from nixops_proxmox.lab.tasks import Log
from nixops_proxmox.lab.vm import Vm


def check_removable(cluster: Cluster, vm: Vm, *, purge: bool) -> None:
    if vm.config.get("protection") == "1":
        die(f"can't remove VM {vm.vmid} - protection mode enabled")
    if not purge:
        refuse_replicated(cluster, vm.vmid)
    if vm.ha and not purge:
        die(f"unable to remove VM {vm.vmid} - used in HA resources and purge parameter not set.")
    if vm.running:
        die(f"VM {vm.vmid} is running - destroy failed")


def start_remove(cluster: Cluster, auth: Auth, vm: Vm, *, purge: bool, unreferenced: bool, skip_lock: bool) -> str:
    cluster.check_quorum()
    check_removable(cluster, vm, purge=purge)

    async def work(log: Log) -> None:
        async with cluster.flocked(vm):
            if cluster.vms.get(vm.vmid) is not vm:
                die(f"Configuration file 'nodes/{vm.node}/qemu-server/{vm.vmid}.conf' does not exist")
            if not skip_lock:
                vm.check_lock("suspended")  # a hibernated VM may be destroyed
            check_removable(cluster, vm, purge=purge)
            await remove_guest(cluster, vm, log, unreferenced=unreferenced)
            if purge:
                log.say(f"purging VM {vm.vmid} from related configurations..")
                purge_guest(cluster, vm)

    return cluster.tasks.start(vm.node, "qmdestroy", str(vm.vmid), auth, work)


async def remove_guest(cluster: Cluster, vm: Vm, log: Log, *, unreferenced: bool) -> None:
    volids = vm.volids()
    for volid in volids:
        if stored := cluster.stores.find(volid, vm.node):
            cluster.stores.check_unused_base(stored)
    if unreferenced:
        volids += [stored.volid for stored in cluster.stores.owned_by(vm.vmid, vm.node) if stored.volid not in volids]
    for volid in volids:
        stored = cluster.stores.find(volid, vm.node)
        if stored is None or stored.vmid != vm.vmid:  # somebody else's, only borrowed
            continue
        try:
            await cluster.stores.free(stored)
        except Refused as refusal:
            log.warn(f"Could not remove disk '{volid}', check manually: {refusal.text}")
            continue
        if not cluster.stores.storages[stored.storage].on_files:
            log.say(f'  Logical volume "{volid.partition(":")[2]}" successfully removed.')
    cluster.drop(vm)


def purge_guest(cluster: Cluster, vm: Vm) -> None:
    if vm.ha and cluster.release.since(9, 1):
        cluster.ha.take_out(vm.sid)
    cluster.replications.forget(vm.vmid)
    for job in cluster.backup_jobs.values():
        if "vmid" in job:
            job["vmid"] = ",".join(part for part in job["vmid"].split(",") if part != str(vm.vmid))
