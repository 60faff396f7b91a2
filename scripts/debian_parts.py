"""The daemons of the lab's demos: Debian's packages, unpacked below the user's cache, a folder for each part.

Nothing is installed on this machine. The lab's guests have the rest of the libraries: they are made of the same Debian.
"""

import hashlib
import re
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from nixops_proxmox.lab.image import debs, default_cache

LIBRARIES = "usr/lib/x86_64-linux-gnu"


@dataclass(frozen=True)
class Part:
    """What one store path holds."""

    packages: tuple[str, ...]
    files: tuple[str, ...]  # patterns: what a machine needs of these packages


Parts = Mapping[str, Part]  # by the name of its folder


def content_key(parts: Parts) -> str:
    """Hash of what we want in the folders; Debian's point releases do not change it."""
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]


def prepare(parts: Parts, progress: Callable[[str], None], cache: Path | None = None) -> Path:
    """The folder with a folder for each part, made if this content has not been. Raises ImageFailed."""
    cache = cache or default_cache().parent / "debian-parts"
    folder = cache / content_key(parts)
    if folder.exists():
        return folder
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="making-", dir=cache) as name:
        made = Path(name) / "made"
        for part, files in download(parts, Path(name), progress).items():
            take(files, parts[part].files, Path(name) / f"{part}.all", made / part)
        made.rename(folder)  # last: its presence says that all is there
    return folder


def missing_libraries(folder: Path) -> list[str]:
    """What this machine's own libraries lack: simulated guests have no others."""
    programs = [path for path in folder.rglob("*") if path.is_file() and path.read_bytes()[:4] == b"\x7fELF"]
    own = ":".join(str(part / LIBRARIES) for part in folder.iterdir())
    argv = ["env", f"LD_LIBRARY_PATH={own}", "ldd", *map(str, programs)]
    said = debs.run(argv).decode()
    return sorted(set(re.findall(r"^\s*(\S+) => not found", said, re.MULTILINE)))


def download(parts: Parts, work: Path, progress: Callable[[str], None]) -> dict[str, list[Path]]:
    """Each part's packages, by an apt whose state is all in `work`."""
    state = work / "apt"
    for below in ("lists/partial", "archives/partial"):
        (state / below).mkdir(parents=True)
    (state / "status").touch()
    (state / "sources.list").write_text(debs.sources_list(), encoding="utf-8")
    (state / "preferences").write_text(debs.preferences(), encoding="utf-8")
    progress("reading Debian's package lists")
    debs.run(debs.apt_argv(state, "update"))
    found = {}
    for name, part in parts.items():
        progress(f"downloading {', '.join(part.packages)}")
        folder = work / f"{name}.debs"
        folder.mkdir()
        debs.run(debs.apt_argv(state, "download", *part.packages), cwd=folder, timeout=1800)
        found[name] = sorted(folder.glob("*.deb"))
    return found


def take(files: list[Path], patterns: tuple[str, ...], work: Path, target: Path) -> None:
    """What the patterns name of these packages, below `target`; ImageFailed if one names nothing."""
    for deb in files:
        debs.run(["dpkg-deb", "-x", str(deb), str(work)])
    for pattern in patterns:
        found = [path for path in work.glob(pattern) if not path.is_dir()]
        if not found:
            raise debs.ImageFailed(f"Debian's packages have no {pattern}: {', '.join(deb.name for deb in files)}")
        for path in found:
            copy = target / merged(path.relative_to(work))
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(path, copy, follow_symlinks=not path.is_symlink())


def merged(path: Path) -> Path:
    """Some packages still have their libraries outside of /usr."""
    return Path("usr", path) if path.parts[0] == "lib" else path
