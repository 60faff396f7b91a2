"""What can be done to VMs: the work behind the routes."""
