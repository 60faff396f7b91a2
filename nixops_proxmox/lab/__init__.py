"""A Proxmox VE to hold in your hand: its API, strict, over simulated or real (QEMU) guests. Imports nothing of ours."""
