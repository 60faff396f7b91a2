"""What a VM's configuration is carried out on: simulated guests, or QEMU."""
