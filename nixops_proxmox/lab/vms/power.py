"""Power: start, stop, shut down, reboot, reset, pause; each a task that says what PVE's says."""

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from functools import partial

from nixops_proxmox.lab.access import Auth
from nixops_proxmox.lab.cluster import Cluster
from nixops_proxmox.lab.config import is_nic, memory_of, parse_nic
from nixops_proxmox.lab.hardware import hardware_of
from nixops_proxmox.lab.machines.base import AgentError, AgentTimeout, Ended, Hardware, StartFailed, Volume
from nixops_proxmox.lab.permissions import ROOT
from nixops_proxmox.lab.refusals import die
from nixops_proxmox.lab.sdn_nodes import wire_of
from nixops_proxmox.lab.tasks import Log
from nixops_proxmox.lab.vm import Vm
from nixops_proxmox.lab.vms.cloud_init import write_drive
from nixops_proxmox.lab.vms.mapped import has_device, local_resources, mapping_of
from nixops_proxmox.lab.vms.pending import apply_pending

MIB = 1024**2


# Starting.


def begin_start(cluster: Cluster, auth: Auth, vm: Vm) -> str:
    return start_task(cluster, auth, vm.node, vm.vmid)


def start_task(cluster: Cluster, auth: Auth, node: str, vmid: int, delay: float = 0.0) -> str:
    async def work(log: Log) -> None:
        await cluster.clock.sleep(delay)
        vm = cluster.get_vm(node, vmid)
        async with cluster.flocked(vm):
            await start(cluster, vm, log)

    return cluster.tasks.start(node, "qmstart", str(vmid), auth, work)


async def start(cluster: Cluster, vm: Vm, log: Log) -> None:
    """Within the VM's flock."""
    if vm.is_template:
        die("you can't start a vm if it's a template")
    vm.check_lock("suspended") if not (vm.running and vm.lock == "backup") else None
    if vm.running:
        die(f"VM {vm.vmid} already running")
    await apply_pending(cluster, vm)
    if vm.config.get("bios") == "ovmf" and "efidisk0" not in vm.config:
        log.warn("no efidisk configured! Using temporary efivars disk.")
    _check_mappings(cluster, vm)
    state = vm.directory / "suspend.state" if vm.lock == "suspended" else None
    await power_on(cluster, vm, state if state and state.exists() else None)
    if vm.lock == "suspended":
        for key in ("lock", "vmstate", "runningmachine", "runningcpu"):
            vm.config.pop(key, None)


async def power_on(cluster: Cluster, vm: Vm, state: object = None) -> None:
    _check_bridges(cluster, vm)
    _check_memory(cluster, vm)
    await switch_on(cluster, vm, hardware(cluster, vm), state)


async def switch_on(cluster: Cluster, vm: Vm, hardware: Hardware, state: object = None) -> None:
    """A VM or a container, by the driver."""
    from pathlib import Path

    began: list[object] = []

    def ended(why: Ended) -> None:
        if not began or vm.running is began[0]:
            forget_machine(vm)
            began.append(why)
            cluster.ha.changed()

    await write_drive(cluster, vm)
    machine = await cluster.driver.power_on(hardware, ended, state=state if isinstance(state, Path) else None)
    if not began:  # it may have ended already
        began.append(machine)
        vm.running, vm.started, vm.paused, vm.suspended = machine, dict(vm.config), False, False


def forget_machine(vm: Vm) -> None:
    vm.running, vm.started, vm.paused, vm.suspended = None, {}, False, False


def hardware(cluster: Cluster, vm: Vm) -> Hardware:
    return hardware_of(vm, partial(find_volume, cluster, vm), partial(wire_of, cluster), cluster.release)


def find_volume(cluster: Cluster, vm: Vm, volid: str) -> Volume:
    storage = cluster.stores.get_usable(cluster.stores.split(volid)[0], vm.node)
    stored = cluster.stores.find(volid, vm.node)
    if stored is None:
        die(
            f"volume '{volid}' does not exist"
            if storage.on_files
            else f"no such logical volume pve/{volid.partition(':')[2]}"
        )
    return stored.volume


def has_bridge(cluster: Cluster, node: str, bridge: str) -> bool:
    known = cluster.bridges.get(bridge)
    return known is not None and (not known.nodes or node in known.nodes)


def _check_mappings(cluster: Cluster, vm: Vm) -> None:
    """A device by a mapping must be on the VM's node, as parse_hostpci and parse_usb_device in qemu-server have it."""
    for key in local_resources(vm)[1]:
        kind, name = mapping_of(vm, key)
        if not has_device(cluster, vm.node, kind, name):
            die(f"{kind.upper()} device mapping not found for '{name}'")


def _check_bridges(cluster: Cluster, vm: Vm) -> None:
    for key, value in vm.config.items():
        if not is_nic(key):
            continue
        nic = parse_nic(value)
        bridge = nic.get("bridge")
        _check_vlan(cluster, key, nic)
        if bridge and not has_bridge(cluster, vm.node, bridge):
            device = f"tap{vm.vmid}i{key[3:]}"
            raise StartFailed(
                "start failed: QEMU exited with code 1",
                (
                    f"bridge '{bridge}' does not exist",
                    f"kvm: -netdev type=tap,id={key},ifname={device},script=/var/lib/qemu-server/pve-bridge,"
                    "downscript=/var/lib/qemu-server/pve-bridgedown,vhost=on: network script "
                    "/var/lib/qemu-server/pve-bridge failed with status 512",
                ),
            )


def _check_vlan(cluster: Cluster, key: str, nic: Mapping[str, str]) -> None:
    """A vnet that is not VLAN-aware takes no tags; PVE finds out only now."""
    vnet = cluster.sdn.running["vnets"].get(nic.get("bridge", ""))
    if vnet is not None and not vnet.get("vlanaware") and ("tag" in nic or "trunks" in nic):
        said = f"vm vlans are not allowed on vnet {nic['bridge']}"
        raise StartFailed("start failed: QEMU exited with code 1", (f"{key}: {said}",))


def _check_memory(cluster: Cluster, vm: Vm) -> None:
    node = cluster.nodes[vm.node]
    if memory_of(vm.config) * MIB > node.memory:
        raise StartFailed(
            "start failed: QEMU exited with code 1",
            ("kvm: cannot set up guest memory 'pc.ram': Cannot allocate memory",),
        )


# Ending.


async def stop(vm: Vm) -> None:
    if vm.running:
        await vm.running.power_off()
        forget_machine(vm)


async def stop_and_tidy(cluster: Cluster, vm: Vm) -> None:
    """As PVE's own stop and shutdown: what was pending is applied. A guest that powers off by itself leaves it."""
    if vm.running:
        await stop(vm)
        await apply_pending(cluster, vm)


async def shut_down(cluster: Cluster, vm: Vm, timeout: float, *, force: bool, log: Log) -> None:
    """Within the flock, all the time that the guest takes."""
    if vm.running is None:
        return
    if vm.has_agent_device:
        await _ping(cluster, vm, log)
    if await vm.running.shut_down(timeout):
        forget_machine(vm)
        await apply_pending(cluster, vm)
        return
    if not force:
        die("VM quit/powerdown failed - got timeout")
    log.say("VM still running - terminating now with SIGTERM")
    await stop_and_tidy(cluster, vm)


async def _ping(cluster: Cluster, vm: Vm, log: Log) -> None:
    word = "qga" if cluster.release.since(9, 1) else "qmp"
    try:
        if vm.running and not vm.agent_silent:
            await vm.running.agent("guest-ping", {}, cluster.latency.agent_ping)
            return
    except asyncio.CancelledError:
        log.say("QEMU Guest Agent is not running - received interrupt")
        log.interrupted = False  # that was all it got to write
        raise
    except (AgentTimeout, AgentError):
        pass
    log.say(f"QEMU Guest Agent is not running - VM {vm.vmid} {word} command 'guest-ping' failed - got timeout")


async def reboot(cluster: Cluster, vm: Vm, timeout: float, log: Log) -> None:
    """The task ends when the guest is down, and it is seen stopped, until qmeventd, as root, starts it again."""
    async with cluster.flocked(vm):
        await shut_down(cluster, vm, timeout, force=False, log=log)
    start_task(cluster, Auth(ROOT), vm.node, vm.vmid, cluster.latency.restart)


async def pause(vm: Vm) -> None:
    if vm.running:
        await vm.running.pause()
        vm.paused = True


async def resume(vm: Vm) -> None:
    if vm.running:
        await vm.running.resume()
        vm.paused = False


async def wait_for_end(vm: Vm, seconds: float) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            while vm.running:
                await asyncio.sleep(0.01)
