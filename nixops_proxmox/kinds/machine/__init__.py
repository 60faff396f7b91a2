"""The core: how a machine gets from one phase to another. No I/O; start reading at `table.py`."""
