"""What runs inside a simulated guest: its process 1 and stand-ins for tools that need real block devices.

These files are started by path, with Python's standard library alone; the lab never imports them.
"""
