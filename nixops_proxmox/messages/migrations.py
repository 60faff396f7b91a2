"""What moving a machine to another node means, a line each."""

from nixops_proxmox.messages.amounts import amount
from nixops_proxmox.model import Transfer
from nixops_proxmox.texts import shown_line


def describe_migration(name: str, way: Transfer) -> list[str]:
    if way.source == way.target:
        return [f"{name}: it is on {way.target} already"]
    lines = [f"{name}: {way.source} → {way.target}, {'live' if way.live else 'while it is stopped'}"]
    if way.copied:
        lines.append(f"  {amount(way.size)} of disks are copied: {', '.join(map(shown_line, way.copied))}")
    lines += [f"  forbidden: {shown_line(reason)}" for reason in way.blocked]
    return [*lines, *(f"  {shown_line(text)}" for text in way.told)]
