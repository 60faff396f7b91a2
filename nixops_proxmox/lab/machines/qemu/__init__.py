"""Real guests: one QEMU process per running VM, behind the lab's machine interface."""

from nixops_proxmox.lab.machines.qemu.driver import QemuDriver

__all__ = ["QemuDriver"]
