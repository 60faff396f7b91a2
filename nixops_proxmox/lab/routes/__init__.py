"""The operations, by subject: parameters and permissions as data, handlers that call the work."""

from nixops_proxmox.lab.routes import access, agent, cluster, config, nodes, power, qemu, storage, tasks, upload

ALL = (
    cluster.routes,
    access.routes,
    nodes.routes,
    tasks.routes,
    upload.routes,
    storage.routes,
    qemu.routes,
    config.routes,
    power.routes,
    agent.routes,
)
