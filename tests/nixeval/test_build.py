from pathlib import Path

import pytest

from nixops_proxmox.errors import BuildFailed
from nixops_proxmox.nixeval.build import build_argv, build_system, build_systems, drop_root, failed_derivations
from nixops_proxmox.nixeval.evaluate import Toplevel
from nixops_proxmox.nixeval.runner import ProcessRunner
from nixops_proxmox.nixeval.tools import Nix
from tests.builds import BUILDER

DERIVATIONS = f"""\
let
  make = name: import {BUILDER} name {{ }};
  shared = make "shared" "echo the shared part is broken >&2; exit 3";
in {{
  good = make "good" "echo building good >&2; echo good >$out";
  other = make "other" "echo other >$out";
  broken = make "broken" "echo oh no >&2; exit 1";
  needs = make "needs" "echo ${{shared}} >$out";
}}
"""


@pytest.fixture
def toplevels(nix: Nix, nix_run: ProcessRunner, tmp_path: Path) -> dict[str, Toplevel]:
    file = tmp_path / "derivations.nix"
    file.write_text(DERIVATIONS)
    names = ("good", "other", "broken", "needs")
    found = {}
    for name in names:
        drv = nix_run(nix.argv("nix-instantiate", str(file), "-A", name)).stdout.strip()
        out = nix_run(nix.argv("nix-store", "--query", "--outputs", drv)).stdout.strip()
        found[name] = Toplevel(drv, out)
    return found


def test_one_command_builds_everything_and_goes_on_after_a_failure(fake_nix: Nix) -> None:
    assert build_argv(fake_nix, ["/b.drv", "/a.drv", "/b.drv"]) == [
        *("/n/bin/nix-store", "--realise", "--keep-going", "/a.drv", "/b.drv")
    ]


@pytest.mark.nix
def test_what_can_be_built_is_built_and_each_failure_is_its_machines_own(
    nix: Nix, nix_run: ProcessRunner, toplevels: dict[str, Toplevel], tmp_path: Path
) -> None:
    lines: list[str] = []
    roots = tmp_path / "roots"
    built = build_systems(nix, toplevels, roots=roots, run=nix_run, tell=lines.append)
    assert built.systems == {name: toplevels[name].out_path for name in ("good", "other")}
    assert set(built.failures) == {"broken", "needs"}
    broken, needs = built.failures["broken"].message, built.failures["needs"].message
    assert broken.startswith("broken: ") and "-broken.drv' failed" in broken and "shared" not in broken
    assert needs.startswith("needs: ") and "-shared.drv' failed" in needs and "broken" not in needs
    assert built.failures["needs"].hint.startswith("the whole log: nix-store --read-log ")
    assert "building good" in lines
    assert {path.name: str(path.readlink()) for path in roots.iterdir()} == built.systems


@pytest.mark.nix
def test_a_kept_system_outlives_the_garbage_collector(
    nix: Nix, nix_run: ProcessRunner, toplevels: dict[str, Toplevel], tmp_path: Path
) -> None:
    roots = tmp_path / "roots"
    system = build_system(nix, "good", toplevels["good"], roots=roots, run=nix_run)
    nix_run(nix.argv("nix-store", "--gc"))
    assert Path(system).exists()
    drop_root(roots, "good")
    drop_root(roots, "good")
    nix_run(nix.argv("nix-store", "--gc"))
    assert not Path(system).exists()


@pytest.mark.nix
def test_a_single_build_raises_its_failure(
    nix: Nix, nix_run: ProcessRunner, toplevels: dict[str, Toplevel], tmp_path: Path
) -> None:
    with pytest.raises(BuildFailed, match="broken: its system could not be built"):
        build_system(nix, "broken", toplevels["broken"], roots=tmp_path / "roots", run=nix_run)


@pytest.mark.nix
def test_a_builder_that_the_sandbox_does_not_have_is_named(nix: Nix, nix_run: ProcessRunner, tmp_path: Path) -> None:
    text = 'derivation { name = "plain"; system = builtins.currentSystem; builder = "/no/sh"; }'
    drv = nix_run(nix.argv("nix-instantiate", "-E", text)).stdout.strip()
    out = nix_run(nix.argv("nix-store", "--query", "--outputs", drv)).stdout.strip()
    with pytest.raises(BuildFailed, match="its builder /no/sh does not exist in Nix's sandbox") as caught:
        build_system(nix, "web", Toplevel(drv, out), roots=tmp_path / "roots", run=nix_run)
    assert caught.value.hint.startswith("a sandboxed build sees only the store: use a builder from there")


@pytest.mark.parametrize(
    "line",
    [
        "error: builder for '/nix/store/x-a.drv' failed with exit code 3;",
        "error: Cannot build '/nix/store/x-a.drv'.",
        "error: builder for ‘/nix/store/x-a.drv’ failed with exit code 3",
    ],
)
def test_failed_derivations_are_found_in_the_words_of_old_and_new_nix(line: str) -> None:
    assert failed_derivations(f"{line}\n{line}\n") == ["/nix/store/x-a.drv"]
