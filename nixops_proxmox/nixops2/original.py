"""Machines that the original nixops-proxmox made, by what it left in NixOps's state: taken over as they are."""
