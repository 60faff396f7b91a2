"""What runs inside a simulated guest: its process 1 and stand-ins for tools that need real block devices.

They are started in the guest by whatever Python is there, with its standard library alone.
"""
