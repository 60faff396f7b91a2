"""The daemons of the demos: what is taken out of packages."""

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from nixops_proxmox.lab.image import ImageFailed

SCRIPT = Path(__file__).resolve().parents[1] / "scripts" / "debian_parts.py"


@pytest.fixture(scope="module")
def packages() -> ModuleType:
    spec = importlib.util.spec_from_file_location("debian_parts", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = sys.modules["debian_parts"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def deb(tmp_path: Path) -> Path:
    """A package with a program, a library with its link, and a page."""
    tree = tmp_path / "tree"
    for name in ("DEBIAN/control", "usr/bin/serve", "usr/lib/libserve.so.1.2", "usr/share/man/serve.1"):
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_text("Package: serve\nVersion: 1\nArchitecture: all\nMaintainer: me\nDescription: it\n")
    (tree / "usr/lib/libserve.so.1").symlink_to("libserve.so.1.2")
    made = tmp_path / "serve.deb"
    subprocess.run(["dpkg-deb", "--root-owner-group", "-b", tree, made], check=True, capture_output=True)
    return made


def test_only_what_is_named_is_taken_and_links_stay_links(packages: ModuleType, deb: Path, tmp_path: Path) -> None:
    packages.take([deb], ("usr/bin/serve", "usr/lib/libserve.so*"), tmp_path / "all", tmp_path / "part")
    taken = {str(path.relative_to(tmp_path / "part")) for path in (tmp_path / "part").rglob("*") if not path.is_dir()}
    assert taken == {"usr/bin/serve", "usr/lib/libserve.so.1", "usr/lib/libserve.so.1.2"}
    assert (tmp_path / "part/usr/lib/libserve.so.1").readlink() == Path("libserve.so.1.2")


def test_a_pattern_that_names_nothing_is_an_error(packages: ModuleType, deb: Path, tmp_path: Path) -> None:
    with pytest.raises(ImageFailed, match=r"Debian's packages have no usr/sbin/serve: serve\.deb"):
        packages.take([deb], ("usr/bin/serve", "usr/sbin/serve"), tmp_path / "all", tmp_path / "part")


def test_libraries_outside_of_usr_are_found_with_the_others(packages: ModuleType) -> None:
    assert packages.merged(Path("lib/x86_64-linux-gnu/libnl.so")) == Path("usr/lib/x86_64-linux-gnu/libnl.so")
    assert packages.merged(Path("usr/sbin/serve")) == Path("usr/sbin/serve")


def test_other_wishes_are_another_folder_and_what_is_there_is_not_made_again(
    packages: ModuleType, tmp_path: Path
) -> None:
    parts = {"git": packages.Part(("git",), ("usr/bin/git",))}
    folder = tmp_path / packages.content_key(parts)
    folder.mkdir()
    assert packages.prepare(parts, lambda text: pytest.fail(text), tmp_path) == folder
    more = {**parts, "psql": packages.Part(("postgresql-client-15",), ("usr/lib/postgresql/15/bin/psql",))}
    assert packages.content_key(more) != folder.name
