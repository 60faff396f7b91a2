"""The operations, by subject: parameters and permissions as data, handlers that call the work."""

from nixops_proxmox.lab.routes import (
    access,
    agent,
    cluster,
    config,
    console,
    moves,
    nodes,
    power,
    qemu,
    snapshots,
    storage,
    tasks,
    upload,
)

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
    snapshots.routes,
    moves.routes,
    console.routes,
)
