"""What PVE's HA is told of our machines."""
