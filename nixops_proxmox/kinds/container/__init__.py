"""Containers: machines that PVE runs as LXC. Their table is `table.py`; the steps are those of machines, but for how
one is made and how it gets its identity."""
