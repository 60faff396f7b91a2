"""Lists of MAC addresses that people share: read, an entry taken and given back, and nothing else in them changed."""

from nixops_proxmox.addresses.choice import Asked, Elsewhere, choose
from nixops_proxmox.addresses.entry import PoolEntry, mark_of
from nixops_proxmox.addresses.pool import MacPool
from nixops_proxmox.addresses.tree import commit_command

__all__ = ["Asked", "Elsewhere", "MacPool", "PoolEntry", "choose", "commit_command", "mark_of"]
