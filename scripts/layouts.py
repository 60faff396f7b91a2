"""Writes nix/layouts.json: the layouts by name, and how disks are emptied before they are laid out, from Python's
table. nix/options.nix and nix/guest.nix read it. With --check it only compares."""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
TARGET = ROOT / "nix" / "layouts.json"


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


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="Write nothing; fail if it is out of date")
    if parser.parse_args().check:
        current = TARGET.read_text(encoding="utf-8") if TARGET.exists() else ""
        if current != render():
            sys.stderr.write("nix/layouts.json is out of date: scripts/docs\n")
            return 1
        return 0
    TARGET.write_text(render(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
