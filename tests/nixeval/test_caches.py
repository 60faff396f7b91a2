"""A binary cache between us and machines that are real Nix stores in folders."""

import os
from pathlib import Path

import pytest

from nixops_proxmox.errors import CopyFailed
from nixops_proxmox.model import Completed
from nixops_proxmox.nixeval.caches import CacheKey, Caches, push_argvs
from nixops_proxmox.nixeval.runner import ProcessRunner
from nixops_proxmox.nixeval.tools import Nix
from nixops_proxmox.ssh.keys import KeyStore
from tests.bench.copying import Field, Folder, serve
from tests.builds import BUILDER
from tests.nixeval.scripted import ScriptedRunner

KEY = CacheKey(Path("/k/a b"), "shop-1:AAAA")


@pytest.mark.parametrize(
    ("store", "argvs"),
    [
        ("file:///c", [["copy", "--no-check-sigs", "--to", "file:///c?compression=zstd&secret-key=/k/a%20b", "/s"]]),
        (
            "s3://c?region=x&compression=xz",
            [["copy", "--no-check-sigs", "--to", "s3://c?region=x&compression=xz&secret-key=/k/a%20b", "/s"]],
        ),
        (
            "ssh-ng://cache",
            [
                ["store", "sign", "--recursive", "--key-file", "/k/a b", "/s"],
                ["copy", "--no-check-sigs", "--to", "ssh-ng://cache", "/s"],
            ],
        ),
    ],
)
def test_what_goes_to_a_cache_is_signed(fake_nix: Nix, store: str, argvs: list[list[str]]) -> None:
    assert [argv[3:] for argv in push_argvs(fake_nix, "/s", store, KEY.file)] == argvs


def test_a_system_goes_to_a_cache_once(fake_nix: Nix) -> None:
    run = ScriptedRunner([Completed(0), Completed(0), Completed(1, "", "error: no space left")])
    caches = Caches(fake_nix, lambda: KEY, run)
    for store in ("file:///a", "file:///a", "file:///b"):
        caches.push("/s", store, lambda _: None)
    with pytest.raises(CopyFailed, match="/t could not be copied to the cache file:///a\nerror: no space left"):
        caches.push("/t", "file:///a", lambda _: None)
    assert len(run.calls) == 3


@pytest.fixture
def field(nix: Nix, tmp_path: Path) -> Field:
    return Field(tmp_path, 3, 4, 1, nix)


@pytest.mark.nix
def test_what_machines_share_leaves_us_once(field: Field) -> None:
    assert field.copy_each() > 1.8 * field.union, "a copy for each sends it each time"
    assert field.copy_by_cache() < 1.1 * field.union


@pytest.mark.nix
def test_a_machine_takes_nothing_that_another_key_has_signed(nix: Nix, nix_run: ProcessRunner, tmp_path: Path) -> None:
    text = f'import {BUILDER} "system" {{ }} "echo a system >$out"'
    drv = nix_run(nix.argv("nix-instantiate", "-E", text)).stdout.strip()
    system = nix_run(nix.argv("nix-store", "--realise", drv)).stdout.strip()
    folder, guest = tmp_path / "binary-cache", tmp_path / "guest"
    folder.mkdir()
    ours, theirs = (_caches(nix, nix_run, tmp_path / name) for name in ("ours", "theirs"))
    shell = Folder({**os.environ, **nix_run.environment, "PATH": f"{nix.directory}:{os.environ['PATH']}"})
    arrived = guest / "nix" / "store" / Path(system).name
    theirs.push(system, f"file://{folder}", lambda _: None)
    with serve(folder) as url:
        with pytest.raises(CopyFailed, match=rf"web: it could not fetch {system} from {url}\n"):
            ours.fetch(system, url, shell, machine="web", root=str(guest))
        assert not arrived.exists()
        theirs.fetch(system, url, shell, machine="web", root=str(guest))
    assert arrived.read_text() == "a system\n"


def _caches(nix: Nix, run: ProcessRunner, folder: Path) -> Caches:
    return Caches(nix, lambda: CacheKey(*KeyStore(folder, "shop").signing_key()), run)
