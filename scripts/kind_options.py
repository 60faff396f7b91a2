"""Writes nix/kinds.json: the options of all that a network describes under `resources`, from Python's specification.
NixOps 2 and NixOps 4 read it. With --check it only compares."""

import json
import sys
from typing import Any

from scripts.generated import write_or_check


def kinds() -> dict[str, Any]:
    """By option: `type`, NixOps 4's resource type (null: it has none), and the options."""
    from nixops_proxmox.kinds.registry import our_kinds
    from nixops_proxmox.spec.declared import declared
    from nixops_proxmox.spec.macs import MAC_POOLS, MAC_SCHEMES, MacPoolSpec, MacSchemeSpec

    found: dict[str, Any] = {
        one.model.option: {"type": one.name, "options": declared(one.model)}
        for entry in our_kinds()
        for one in entry.types()
        if one.model is not None
    }
    for path, model in ((MAC_POOLS, MacPoolSpec), (MAC_SCHEMES, MacSchemeSpec)):
        found[path.rpartition(".")[2]] = {"type": None, "options": declared(model)}
    return dict(sorted(found.items()))


def render() -> str:
    """A line for each option."""
    parts = [f"{json.dumps(name)}: {_kind(kind)}" for name, kind in kinds().items()]
    return "{\n" + ",\n".join(parts) + "\n}\n"


def _kind(kind: dict[str, Any]) -> str:
    options = [f"  {json.dumps(name)}: {json.dumps(said)}" for name, said in kind["options"].items()]
    return f'{{"type": {json.dumps(kind["type"])}, "options": {{\n' + ",\n".join(options) + "\n}}"


if __name__ == "__main__":
    sys.exit(write_or_check("kinds.json", render, __doc__))
