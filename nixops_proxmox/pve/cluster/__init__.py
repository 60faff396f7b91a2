"""What the machines' kind needs of a cluster: find, place, look, and work that waits its turn."""
