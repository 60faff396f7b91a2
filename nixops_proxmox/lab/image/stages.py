"""The first stage, which finds a root file system: a small archive, and a larger one for the roots that need more than
ext4 on a partition."""

import re
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from nixops_proxmox.lab.image import cpio, packages
from nixops_proxmox.lab.image.debs import ImageFailed, run

LIBRARIES = ("usr/lib/x86_64-linux-gnu", "usr/lib")
LOADER = "lib64/ld-linux-x86-64.so.2"
Dependencies = dict[str, tuple[str, list[str]]]  # module name (dashes as underscores) → its file, the files it needs


@dataclass(frozen=True)
class Stages:
    """Uncompressed cpio archives. A system loads one: the kernel does not unpack one LZ4 archive after another."""

    first: bytes
    roots: bytes


def parse_dependencies(text: str) -> Dependencies:
    """modules.dep: module name (dashes as underscores) → its file and the files it needs."""
    found = {}
    for line in text.splitlines():
        file, _, needs = line.partition(":")
        found[module_name(file)] = (file, needs.split())
    return found


def module_name(file: str) -> str:
    return Path(file).name.partition(".")[0].replace("-", "_")


def close_over(wanted: Iterable[str], known: Dependencies) -> list[str]:
    """Files of the modules wanted and of all they need, in loading order; built-in ones are not there and fine."""
    order: list[str] = []
    for name in wanted:
        file, needs = known.get(name.replace("-", "_"), ("", []))
        order += [found for found in (*reversed(needs), file) if found and found not in order]
    return order


def parse_needed(text: str) -> list[str]:
    """The libraries in what `readelf -d` prints."""
    return re.findall(r"\(NEEDED\)\s+Shared library: \[([^\]]+)\]", text)


def close_over_libraries(root: Path, programs: Sequence[str]) -> list[Path]:
    """The libraries that programs are linked with, and those that these need. Raises ImageFailed if one is missing."""
    found: dict[str, Path] = {}
    todo = [root / program for program in programs]
    while todo:
        for name in parse_needed(run(["readelf", "-d", str(todo.pop())]).decode()):
            if name not in found:
                found[name] = find_library(root, name)
                todo.append(found[name])
    return list(found.values())


def find_library(root: Path, name: str) -> Path:
    for folder in LIBRARIES:
        if (root / folder / name).exists():
            return root / folder / name
    raise ImageFailed(f"{name} is in none of the image's packages")


def build_stages(root: Path, release: str, known: Dependencies, work: Path) -> Stages:
    modules = Path("lib/modules") / release
    at_once = close_over(packages.BOOT_MODULES, known)
    first, roots = work / "first-stage", work / "first-stage-roots"
    for stage, files in (
        (first, at_once),
        (roots, close_over((*packages.BOOT_MODULES, *packages.ROOT_MODULES), known)),
    ):
        fill_first(root, stage)
        copy_modules(root, stage, modules, files)
        (stage / "modules").write_text("".join(f"/{modules}/{file}\n" for file in at_once), encoding="utf-8")
    add_root_tools(root, roots)
    return Stages(cpio.pack(first), cpio.pack(roots))


def fill_first(root: Path, stage: Path) -> None:
    """busybox, and the script that finds the root file system."""
    (stage / "bin").mkdir(parents=True)
    for folder in ("dev", "proc", "sys", "root", "base", "live", "tmp"):
        (stage / folder).mkdir()
    shutil.copy2(root / "usr/bin/busybox", stage / "bin/busybox")
    shutil.copy2(root / "usr/lib/lab/first-stage", stage / "init")


def add_root_tools(root: Path, stage: Path) -> None:
    """The programs that open what a file system may lie on, and the script that calls them."""
    for program in packages.ROOT_TOOLS:
        shutil.copy2(root / program, stage / "bin" / Path(program).name)
    shutil.copy2(root / "usr/lib/lab/layers", stage / "layers")
    libraries = close_over_libraries(root, packages.ROOT_TOOLS)
    for source, name in ((root / "usr" / LOADER, LOADER), *((path, f"lib/{path.name}") for path in libraries)):
        (stage / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(source, stage / name)


def copy_modules(root: Path, stage: Path, modules: Path, files: Sequence[str]) -> None:
    """Kernel modules and the lists by which modprobe finds them."""
    for file in files:
        (stage / modules / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(root / "usr" / modules / file, stage / modules / file)
    run(["depmod", "-b", str(stage), "-C", "/dev/null", modules.name])
