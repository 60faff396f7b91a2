"""ZFS for the lab's installer. Debian has its source alone, so the module is built, for the very kernel of that image.

The tools come with their own libraries and loader, as the installer is of another suite.
"""

import hashlib
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from nixops_proxmox.lab.image import default_cache, packages
from tests.pace import wait_until
from tests.qemu import building
from tests.qemu.tang import HOST

if TYPE_CHECKING:
    from tests.qemu.bed import GuestBed

PORT = 7510
TOOLS, MODULES = ("zpool", "zfs"), ("spl", "zfs")
INCLUDE = (packages.KERNEL.replace("image", "headers"), "zfs-dkms", "zfsutils-linux")
WRAPPER = """\
#!/bin/sh
exec /opt/zfs/lib/ld-linux-x86-64.so.2 --library-path /opt/zfs/lib /opt/zfs/bin/{tool} "$@"
"""
# What a partition script begins with: NixOS's installer has it all.
FETCH = f"""\
curl -sSf http://{HOST}:{PORT}/zfs.tar.gz | tar -xz -C /
{"; ".join(f"[ -d /sys/module/{name} ] || insmod /opt/zfs/{name}.ko" for name in MODULES)}
"""


def find_obstacle() -> str:
    """Why it cannot be built here, or nothing."""
    return building.find_obstacle("mmdebstrap")


def build_zfs() -> Path:
    """A folder in the cache with `zfs.tar.gz`. The first build takes ten minutes."""
    cache = default_cache()
    (*_, kernel) = sorted((cache / "apt" / "debs").glob("linux-image-*-cloud-*.deb"))
    key = hashlib.sha256(f"{kernel.name}{Path(__file__).read_text()}".encode()).hexdigest()[:12]
    folder = cache / f"zfs-{key}"
    if not folder.exists():
        with tempfile.TemporaryDirectory(dir=cache) as work:
            _build(Path(work), kernel.name)
            (Path(work) / "served").replace(folder)
    return folder


def _build(work: Path, kernel: str) -> None:
    root, packed, served = work / "root", work / "packed", work / "served"
    building.run(
        *("mmdebstrap", "--variant=minbase", f"--include={','.join(INCLUDE)}", "--mode=root"),
        *("--components=main,contrib", packages.KERNEL_SUITE, str(root), packages.MIRROR),
    )
    (built,) = (root / "lib/modules").glob("*/updates/dkms")
    version = built.parent.parent.name
    assert f"linux-image-{version}_" in kernel, f"the lab's image has another kernel than {version}: build it again"
    target = packed / "opt/zfs"
    for folder in (target / "lib", target / "bin", packed / "usr/local/bin", served):
        folder.mkdir(parents=True)
    for module in MODULES:
        (target / f"{module}.ko").write_bytes(building.run("xz", "-dc", str(built / f"{module}.ko.xz")))
    for tool in TOOLS:
        shutil.copy(root / "usr/sbin" / tool, target / "bin" / tool)
        wrapper = packed / "usr/local/bin" / tool
        wrapper.write_text(WRAPPER.format(tool=tool))
        wrapper.chmod(0o755)
        needed = building.run("chroot", str(root), "ldd", f"/usr/sbin/{tool}").decode()
        for library in re.findall(r"(/lib\S+) \(", needed):
            shutil.copy((root / library.lstrip("/")).resolve(), target / "lib" / Path(library).name)
    building.run("tar", "-czf", str(served / "zfs.tar.gz"), "-C", str(packed), "opt", "usr")


@contextmanager
def served_zfs(bed: "GuestBed") -> Iterator[None]:
    """Over HTTP, in the lab's network."""
    argv = ["busybox", "httpd", "-f", "-p", str(PORT), "-h", str(build_zfs())]
    with subprocess.Popen(bed.running.enter_argv(argv)) as server:
        try:
            look = ["busybox", "wget", "-q", "-O", "/dev/null", f"http://127.0.0.1:{PORT}/zfs.tar.gz"]
            wait_until(lambda: subprocess.run(bed.running.enter_argv(look), check=False).returncode == 0, 20, "ZFS")
            yield
        finally:
            server.kill()
