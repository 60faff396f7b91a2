"""Describe NixOS machines in Nix, and get them installed, running and reachable on Proxmox VE."""

__version__ = "0.2.0"
