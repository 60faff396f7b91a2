"""The core: how a machine gets from one phase to another. No I/O. Start reading at `table.py`."""
