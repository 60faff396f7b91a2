import subprocess
from pathlib import Path

import pytest

from nixops_proxmox.nixeval.copy import Destination, copy_closure
from nixops_proxmox.nixeval.holding import hold_script
from nixops_proxmox.nixeval.runner import ProcessRunner
from nixops_proxmox.nixeval.tools import Nix
from tests.pace import patience

pytestmark = pytest.mark.nix


def test_what_is_held_before_it_arrives_outlives_the_garbage_collector_until_the_next_one_is(
    nix: Nix, nix_run: ProcessRunner, tmp_path: Path
) -> None:
    text = 'builtins.toFile "system" "a system"'
    system = nix_run(nix.argv("nix-instantiate", "--eval", "--json", "--read-write-mode", "-E", text)).stdout.strip(
        '"\n'
    )
    there = tmp_path / "there"
    arrived, store = there / "nix" / "store" / Path(system).name, f"local?require-sigs=false&root={there}"

    def hold(path: str) -> None:
        for _ in range(2):  # again after a crash
            subprocess.run(["sh", "-c", hold_script(path, str(there))], check=True, timeout=patience(10))

    def collect() -> None:
        assert nix_run(nix.argv("nix-store", "--store", store, "--gc")).status == 0

    hold(system)
    copy_closure(nix, system, Destination(store), machine="web", run=nix_run)
    collect()
    assert arrived.exists()
    hold(f"{system}-next")
    collect()
    assert not arrived.exists()
