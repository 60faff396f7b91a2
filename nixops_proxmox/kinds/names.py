"""What kinds are called, for parsers of arguments: without their tables, which take a while to import."""

from collections.abc import Iterator
from importlib.metadata import entry_points

GROUP = "nixops_proxmox.kinds"  # the entry point of packages that bring kinds
MACHINE = "machine"
OURS = (
    MACHINE,
    "container",
    "medium",
    "volume",
    "backup-job",
    "ha",
    "ha-rule",
    "mapping",
    "network",
    "pool",
    "replication",
    "reservation",
    "routing",
    "storage",
    "template",
    "firewall",
    "cluster-firewall",
    "ip-set",
    "address-alias",
    "security-group",
    "address",
)


class KindNames:
    """The names, for a parser of arguments: asked for when they are completed, so that no start waits for packages.
    It accepts every name, because the verb itself says what is wrong with one."""

    def __iter__(self) -> Iterator[str]:
        if not entry_points(group=GROUP):
            return iter(sorted(OURS))
        from nixops_proxmox.kinds.registry import find_kinds

        return iter(sorted(find_kinds()))

    def __contains__(self, _name: object) -> bool:
        return True
