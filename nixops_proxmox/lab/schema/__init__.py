"""What parameters PVE takes: the lab's own tables, and the check that speaks PVE's texts."""
