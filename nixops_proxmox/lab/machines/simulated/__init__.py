"""Guests that are no virtual machines: namespaces in which commands really run, or (for fleets) a model of them."""

from nixops_proxmox.lab.machines.simulated.driver import SimulatedDriver
from nixops_proxmox.lab.machines.simulated.options import Body, Options

__all__ = ["Body", "Options", "SimulatedDriver"]
