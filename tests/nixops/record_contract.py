"""Prints what NixOps 2 asks of plugins, as JSON: run with NixOps's own Python when NixOps has changed.

python tests/nixops/record_contract.py > tests/nixops/contract.json
"""

import inspect
import json
from importlib.metadata import version

import nixops.backends
import nixops.deployment
import nixops.locks
import nixops.plugins
import nixops.resources
import nixops.storage

CLASSES = {
    "ResourceDefinition": nixops.resources.ResourceDefinition,
    "ResourceState": nixops.resources.ResourceState,
    "MachineDefinition": nixops.backends.MachineDefinition,
    "MachineState": nixops.backends.MachineState,
    "Plugin": nixops.plugins.Plugin,
    "StorageBackend": nixops.storage.StorageBackend,
    "LockDriver": nixops.locks.LockDriver,
}


def parameters(function: object) -> list[str]:
    """As they are written: `name`, `name=`, `*name`, `**name`."""
    words = []
    for one in inspect.signature(function).parameters.values():  # type: ignore[arg-type]
        stars = {one.VAR_POSITIONAL: "*", one.VAR_KEYWORD: "**"}.get(one.kind, "")
        words.append(f"{stars}{one.name}{'=' if one.default is not one.empty else ''}")
    return words


def methods(of: type) -> dict[str, list[str] | str]:
    found: dict[str, list[str] | str] = {}
    for name in dir(of):
        if name.startswith("_") and name not in ("__init__", "_check"):
            continue
        member = inspect.getattr_static(of, name)
        if isinstance(member, property):
            found[name] = "property"
        elif isinstance(member, staticmethod | classmethod):
            found[name] = parameters(member.__func__)
        elif inspect.isfunction(member):
            found[name] = parameters(member)
    return found


print(  # noqa: T201
    json.dumps(
        {"version": version("nixops"), "classes": {name: methods(of) for name, of in CLASSES.items()}},
        indent=1,
        sort_keys=True,
    )
)
