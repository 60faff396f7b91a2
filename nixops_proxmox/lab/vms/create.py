"""Creating a VM: claim the id at once, make disks and configuration in a task, take it all back on failure."""

from collections.abc import Mapping
from typing import Any

from nixops_proxmox.lab.access import Auth
from nixops_proxmox.lab.cluster import Cluster
from nixops_proxmox.lab.config import default_boot_order, format_nic, is_nic, parse_nic, stored
from nixops_proxmox.lab.refusals import Refused
from nixops_proxmox.lab.tasks import Log
from nixops_proxmox.lab.vm import Vm
from nixops_proxmox.lab.vms import power
from nixops_proxmox.lab.vms.disks import Made, check_disks, make_disks
from nixops_proxmox.lab.vms.leases import take_addresses
from nixops_proxmox.lab.vms.rights import SPECIAL, check_bridges, check_rights

QEMU = {7: "7.2.0", 8: "9.2.0", 9: "10.0.2"}
NOT_CONFIG = SPECIAL | {"node", "vmid", "ha-managed", "digest", "skiplock", "delete", "revert", "background_delay"}


def config_values(params: Mapping[str, Any]) -> dict[str, str]:
    """The configuration keys among a call's parameters, as they are stored."""
    values = {key: stored(value) for key, value in params.items() if key not in NOT_CONFIG}
    if "cdrom" in values:
        values["ide2"] = f"{values.pop('cdrom')},media=cdrom"
    if "description" in values:
        values["description"] = values["description"].rstrip()
        if not values["description"]:
            del values["description"]
    return values


def start_create(cluster: Cluster, auth: Auth, node: str, params: Mapping[str, Any]) -> str:
    """The call's own part; the UPID."""
    vmid, pool = int(params["vmid"]), params.get("pool")
    values = config_values(params)
    check_rights(cluster, auth, vmid, values, pool=pool, creating=True)
    check_disks(cluster, auth, node, vmid, values, params.get("storage", ""))
    check_bridges(cluster, auth, values)
    cluster.check_quorum()
    if vmid in cluster.vms:
        cluster.already_there(vmid)
    vm = cluster.claim(vmid, node, lock="create")

    async def work(log: Log) -> None:
        await _create(cluster, auth, vm, values, params, log)

    return cluster.tasks.start(node, "qmcreate", str(vmid), auth, _guarded(vm, work), lambda: cluster.drop(vm))


def _guarded(vm: Vm, work: Any) -> Any:
    async def guarded(log: Log) -> None:
        try:
            await work(log)
        except Refused as refusal:
            raise Refused(500, f"unable to create VM {vm.vmid} - {refusal.text}") from refusal

    return guarded


async def _create(
    cluster: Cluster, auth: Auth, vm: Vm, values: dict[str, str], params: Mapping[str, Any], log: Log
) -> None:
    made = Made()
    try:
        await make_disks(cluster, vm.node, vm.vmid, values, made, log, params.get("storage", ""))
        cluster.check_quorum()
    except Refused:
        await made.undo(cluster)
        cluster.drop(vm)
        raise
    vm.config = {**complete(cluster, {**values, **made.values})}
    join_pool(cluster, vm, params.get("pool"))
    take_addresses(cluster, vm, log)
    if params.get("start"):
        log.say("Execute autostart")
        power.begin_start(cluster, auth, vm)


def join_pool(cluster: Cluster, vm: Vm, pool: str | None) -> None:
    if pool and pool in cluster.pools:
        cluster.pools[pool].vms.add(vm.vmid)


def complete(cluster: Cluster, values: Mapping[str, str]) -> dict[str, str]:
    """What PVE fills in by itself on create."""
    config = {key: with_mac(cluster, value) if is_nic(key) else value for key, value in values.items()}
    if "boot" not in config:
        order = default_boot_order(config)
        config["boot"] = f"order={';'.join(order)}" if order else " "
    config.setdefault("smbios1", f"uuid={cluster.new_uuid()}")
    if "uuid=" not in config["smbios1"]:
        config["smbios1"] = f"uuid={cluster.new_uuid()},{config['smbios1']}"
    if config.get("vmgenid", "1") == "1":
        config["vmgenid"] = cluster.new_uuid()
    if config["vmgenid"] == "0":
        del config["vmgenid"]
    config["meta"] = f"creation-qemu={QEMU[cluster.release.number[0]]},ctime={int(cluster.clock.time())}"
    return config


def with_mac(cluster: Cluster, value: str) -> str:
    nic = parse_nic(value)
    nic.setdefault("macaddr", cluster.new_mac())
    return format_nic(nic)
