"""`nixops-proxmox`, and `python -m nixops_proxmox`: the command line as a program of its own."""

import gc
import sys

OBJECTS = 50_000  # new ones until Python looks for garbage again; most of a start's stay, so there is little to find


def start() -> int:
    gc.set_threshold(OBJECTS)
    from nixops_proxmox.cli import main

    status = main()
    gc.freeze()  # what is left ends with the process: Python looks through it a last time otherwise
    return status


if __name__ == "__main__":
    sys.exit(start())
