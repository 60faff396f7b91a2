"""A template's files, unpacked into a folder."""

import os
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path


def unpack_into(archive: Path, root: Path, files: Mapping[str, tuple[str, int]]) -> None:
    """For drivers whose volumes are folders. Devices are left out, as PVE leaves them out."""
    root.mkdir(parents=True, exist_ok=True)
    owner = [] if os.geteuid() == 0 else ["--no-same-owner"]
    argv = ["tar", "-xpf", str(archive), *owner, "--anchored", "--exclude", "./dev/*", "-C", str(root)]
    subprocess.run(argv, check=True, capture_output=True)
    for path, (text, mode) in files.items():
        target = root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=target.parent, delete=False) as fresh:
            fresh.write(text)
        Path(fresh.name).chmod(mode)
        Path(fresh.name).replace(target)
