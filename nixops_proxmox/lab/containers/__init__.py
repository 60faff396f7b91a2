"""What the cluster does with containers."""
