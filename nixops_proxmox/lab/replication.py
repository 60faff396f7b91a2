"""What pvescheduler does with replication jobs, and what PVE refuses. No bytes are copied.

A node looks at its jobs once in a round. The lab does that when somebody asks, and keeps to the schedule only as far as
`*/N` (minutes); every other one is once a day.
"""

import re
from typing import Any

from nixops_proxmox.lab.cluster import Cluster
from nixops_proxmox.lab.config import disk_keys, is_cdrom, parse_disk
from nixops_proxmox.lab.refusals import die
from nixops_proxmox.lab.replications import ReplicationJob
from nixops_proxmox.lab.vm import Vm

REPLICATE = ("zfspool",)  # storages with that feature
DAY = 24 * 60 * 60


def refuse_replicated(cluster: Cluster, vmid: int) -> None:
    for name in cluster.replications.of(vmid):
        die(f"There is a replication job '{name}' for guest '{vmid}' - Please remove that first.")


def refuse_other_target(cluster: Cluster, vmid: int, target: str) -> None:
    jobs = cluster.replications.of(vmid).values()
    if jobs and all(job.target != target for job in jobs):
        wrong = "not a replication target. Use 'force' to override."
        die(f"Cannot live-migrate replicated VM to node '{target}' - {wrong}")


def replicated_volumes(cluster: Cluster, vm: Vm) -> list[tuple[str, str]]:
    """Storage and volume of what a job copies; dies for what it cannot."""
    found = []
    for key in disk_keys(vm.config):
        disk = parse_disk(key, vm.config[key])
        volume, storage = disk.get("file", ""), cluster.stores.storages.get(disk.get("file", "").partition(":")[0])
        if is_cdrom(disk) or disk.get("replicate") == "0" or (storage is not None and storage.shared):
            continue
        if volume.startswith("/") or storage is None:
            die(f"unable to replicate local file/device '{volume}'")
        if storage.kind not in REPLICATE:
            die(f"missing replicate feature on volume '{volume}'")
        found.append((storage.name, volume))
    return found


def run_due(cluster: Cluster) -> None:
    """All that the nodes' schedulers have done since somebody last looked."""
    now = cluster.clock.time()
    for name, job in list(cluster.replications.jobs.items()):
        vm = cluster.vms.get(job.guest)
        if vm is None or not cluster.nodes[vm.node].online or job.settings.get("disable"):
            continue  # the scheduler passes over these, even if they are to be removed
        if now < job.since + cluster.latency.replication:
            continue
        if "remove_job" in job.settings:
            _remove(cluster, name, job)
        elif now >= next_sync(job):
            _sync(cluster, vm, job, int(now))


def next_sync(job: ReplicationJob) -> float:
    if job.fail_count:
        return job.last_try + 60 * (5 * job.fail_count if job.fail_count <= 3 else 30)
    minutes = re.fullmatch(r"\*/(\d+)", str(job.settings.get("schedule", "*/15")))
    return job.last_try + (60 * int(minutes[1]) if minutes else DAY) if job.last_try else 0


def _remove(cluster: Cluster, name: str, job: ReplicationJob) -> None:
    """The copies go first, so that the target must be there."""
    node = cluster.nodes.get(job.target)
    if job.settings["remove_job"] == "full" and (node is None or not node.online):
        job.fail_count, job.error = job.fail_count + 1, f"command '/usr/bin/ssh … root@{job.target}' failed"
        return
    del cluster.replications.jobs[name]


def _sync(cluster: Cluster, vm: Vm, job: ReplicationJob, now: int) -> None:
    wrong, node = "", cluster.nodes.get(job.target)
    for storage, _ in replicated_volumes(cluster, vm):
        if not cluster.stores.is_on(cluster.stores.get(storage), job.target):
            wrong = f"storage '{storage}' is not available on node '{job.target}'"
    if node is None or not node.online:
        wrong = f"command '/usr/bin/ssh … root@{job.target}' failed: exit code 255"
    job.last_try, job.error = now, wrong
    job.fail_count = job.fail_count + 1 if wrong else 0
    job.last_sync = job.last_sync if wrong else now


def shown(name: str, job: ReplicationJob) -> dict[str, Any]:
    return {**job.settings, "id": name, "jobnum": int(name.partition("-")[2])}
