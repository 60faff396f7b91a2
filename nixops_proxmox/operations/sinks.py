"""Whether recovery keys could go where they are described to go. A deploy stops there only when the VM is made."""

import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from nixops_proxmox.model import Finding, Level
from nixops_proxmox.spec import MachineSpec


def find_sinks(machines: Sequence[MachineSpec], find: Callable[[str], str | None] = shutil.which) -> Iterator[Finding]:
    """A finding for each folder, and for `age` where it is needed."""
    sinks = {one.name: one.encryption.recovery.sink for one in machines if one.encryption is not None}
    folders: dict[str, list[str]] = {}
    for name, sink in sinks.items():
        if sink.folder is not None:
            folders.setdefault(sink.folder, []).append(name)
    for folder, names in folders.items():
        yield _look_at(Path(folder), ", ".join(names))
    encrypting = [name for name, sink in sinks.items() if sink.age]
    if encrypting and find("age") is None:
        what = f"{', '.join(encrypting)}: encryption.recovery.sink.age needs age, and this computer has none"
        yield Finding(Level.PROBLEM, "age", what, "install age")


def _look_at(folder: Path, names: str) -> Finding:
    """A folder that is not there is made: by whom may write into the nearest one that is."""
    there = next(path for path in (folder, *folder.parents) if path.exists())
    if there.is_dir() and os.access(there, os.W_OK | os.X_OK):
        return Finding(Level.OK, "recovery keys", f"{folder} can take those of {names}")
    return Finding(
        Level.PROBLEM,
        "recovery keys",
        f"{names}: encryption.recovery.sink.folder: {there} is no folder that you may write into",
        "a deploy would stop before it writes the disk; make the folder yours, or name another",
    )
