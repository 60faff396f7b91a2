from dataclasses import replace
from pathlib import Path

import pytest

from nixops_proxmox.errors import BuildFailed
from nixops_proxmox.nixeval.build import build_argv, build_system, build_systems, drop_root
from nixops_proxmox.nixeval.evaluate import Toplevel
from nixops_proxmox.nixeval.failures import failed_derivations
from nixops_proxmox.nixeval.runner import ProcessRunner
from nixops_proxmox.nixeval.tools import Nix
from tests.builds import BUILDER, nix_config

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
    return {name: _instantiate(nix, nix_run, file, name) for name in ("good", "other", "broken", "needs")}


def _instantiate(nix: Nix, run: ProcessRunner, file: Path, name: str) -> Toplevel:
    drv = run(nix.argv("nix-instantiate", str(file), *(["-A", name] if name else []))).stdout.strip()
    return Toplevel(drv, run(nix.argv("nix-store", "--query", "--outputs", drv)).stdout.strip())


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
    assert needs.startswith("needs: ") and "-shared.drv' failed" in needs and "broken.drv" not in needs
    assert broken.endswith("the last lines of its log:\n  oh no"), "the builder's own words"
    assert needs.endswith("the last lines of its log:\n  the shared part is broken")
    assert built.failures["needs"].hint.startswith("the whole log: nix-store --read-log ")
    assert "building good" in lines
    assert {path.name: str(path.readlink()) for path in roots.iterdir()} == built.systems


@pytest.mark.nix
def test_each_machine_hears_of_its_system_as_soon_as_it_is_there_or_never_will_be(
    nix: Nix, nix_run: ProcessRunner, toplevels: dict[str, Toplevel], tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    gate.mkdir()
    settings = nix_config("max-jobs = 4", f"sandbox-paths = {gate}")
    side_by_side = replace(nix_run, environment={**nix_run.environment, "NIX_CONFIG": settings})
    file = tmp_path / "slow.nix"
    file.write_text(f'import {BUILDER} "slow" {{ }} "while [ ! -e {gate}/go ]; do sleep 0.05; done; echo slow >$out"')
    wanted = {name: toplevels[name] for name in ("good", "other", "needs")}
    wanted["slow"] = _instantiate(nix, nix_run, file, "")
    heard: list[tuple[str, bool]] = []

    def hear(name: str, failure: BuildFailed | None) -> None:
        heard.append((name, failure is None))
        if {one for one, _ in heard} == {"good", "other", "needs"}:
            (gate / "go").touch()  # what still builds waits for this, and for nothing else

    build_systems(nix, wanted, roots=tmp_path / "roots", run=side_by_side, ended=hear)
    assert sorted(heard[:3]) == [("good", True), ("needs", False), ("other", True)]
    assert heard[3:] == [("slow", True)]


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
