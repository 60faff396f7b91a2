"""Proxmox VE over HTTP: a typed client, its errors translated once, and the hypervisor that the core works with."""
