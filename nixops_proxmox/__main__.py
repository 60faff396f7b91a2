"""`python -m nixops_proxmox` is the command line."""

import sys

from nixops_proxmox.cli import main

if __name__ == "__main__":
    sys.exit(main())
