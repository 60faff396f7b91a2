"""Writes nix/layouts.json: the layouts by name, and how disks are emptied before they are laid out, from Python's
table. nix/options.nix and nix/guest.nix read it. With --check it only compares."""

import json
import sys
from typing import Any

from scripts.generated import write_or_check


def layouts() -> dict[str, Any]:
    from nixops_proxmox.spec.layouts import EMPTY, LAYOUTS

    found: dict[str, Any] = {
        name.value: {
            "apart": layout.apart,
            "fileSystems": {
                mount.place: {
                    "device": f"/dev/disk/by-label/{mount.label}",
                    "fsType": mount.kind,
                    "options": list(mount.options),
                }
                for mount in layout.mounts
            },
            "lvm": layout.lvm,
            "modules": list(layout.modules),
        }
        for name, layout in LAYOUTS.items()
    }
    return {"empty": EMPTY, "layouts": found}


def render() -> str:
    return json.dumps(layouts(), indent=1) + "\n"


if __name__ == "__main__":
    sys.exit(write_or_check("layouts.json", render, __doc__))
