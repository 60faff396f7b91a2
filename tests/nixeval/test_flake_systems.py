"""Every way to write a flake means the system that Nix itself makes of the same words: with the stand-in, and with
NixOS's own modules where NIXOPS_PROXMOX_NIXPKGS has them."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from nixops_proxmox.nixeval.evaluate import evaluate_network, parse_source
from nixops_proxmox.nixeval.flakes import absolute, split_reference
from nixops_proxmox.nixeval.runner import ProcessRunner
from nixops_proxmox.nixeval.tools import Nix
from nixops_proxmox.paths import nix_dir
from tests.nixes import TREES, WHOLE, nixos_tree, nixpkgs_lib
from tests.nixeval.work_tree import commit_all, git, plant, write_flake
from tests.pace import patience

pytestmark = pytest.mark.nix

FLAKE = """{
  outputs = _:
    let
      nixosSystem = modules: import (TREE + "/nixos/lib/eval-config.nix") { inherit modules; system = "x86_64-linux"; };
      machine = name: {
        imports = [ OURS ];
        networking.hostName = name;
        system.stateVersion = "24.05";
        deployment.proxmox = {
          disks.scsi0 = { storage = "local-lvm"; size = "16G"; };
          network.net0.bridge = "vmbr0";
        };
      };
    in {
      nixosConfigurations.web = nixosSystem [ (machine "PLACE-web") ];
      nixosConfigurations."eu.west" = nixosSystem [ (machine "PLACE-west") ];
      nixosConfigurations.laptop = nixosSystem [ { networking.hostName = throw "the laptop is not looked at"; } ];
      nixopsConfigurations."our.net" = { network.nixpkgs = TREE; web = removeAttrs (machine "net-web") [ "imports" ]; };
    };
}
"""

# What is written (in the folder `shop`, or in one below), and the system that it names.
SPELLINGS = {
    ".": "web",
    "#web": "web",
    ".#web": "web",
    ".#eu.west": "eu.west",
    '.#"eu.west"': "eu.west",
    ".#nixosConfigurations.web": "web",
    "./sub": "web",
    "./sub#eu.west": "eu.west",
    ".?dir=sub#web": "web",
    "git+file:.": "web",
    "git+file://TOP?dir=sub#web": "web",
    "TOP#web": "web",
    "shop": "web",
    "flake:shop#eu.west": "eu.west",
    "../other": "web",
}
WHOLE_FOLDERS = {"../plain#web": "web", "path:.": "web"}  # all that is in them is copied, as `nix build` does


class Shop:
    """A work tree with a flake at its top and another below, a worktree beside, a folder without git, a registry."""

    def __init__(self, folder: Path, flake: str) -> None:
        self.top = folder / "shop"
        plant(self.top, flake)
        commit_all(self.top)
        git(self.top, "worktree", "add", "-q", "../other")
        plant(folder / "plain", flake)
        write_flake(self.top, flake, "dirty")

    def register(self, file: Path) -> None:
        entry = {"from": {"type": "indirect", "id": "shop"}, "to": {"type": "git", "url": f"file://{self.top}"}}
        file.write_text(json.dumps({"version": 2, "flakes": [entry]}))


@pytest.fixture(params=TREES)
def tree(request: pytest.FixtureRequest) -> Path:
    return nixos_tree(request.param)


@pytest.fixture
def run(nix_run: ProcessRunner, tmp_path: Path) -> ProcessRunner:
    """With a registry that is a file, for the usual one is downloaded."""
    registry = f"extra-experimental-features = flakes\nflake-registry = {tmp_path}/registry.json"
    config = f"{nix_run.environment['NIX_CONFIG']}\n{registry}"
    return ProcessRunner({**nix_run.environment, "NIX_CONFIG": config})


@pytest.fixture
def shop(tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shop:
    made = Shop(tmp_path, FLAKE.replace("TREE", str(tree)).replace("OURS", str(nix_dir() / "proxmox.nix")))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    made.register(tmp_path / "registry.json")
    monkeypatch.chdir(made.top)
    return made


@pytest.fixture
def ours(nix: Nix, run: ProcessRunner) -> Callable[[str], dict[str, str]]:
    """The systems' derivations as the command line asks for them, by machine."""

    def evaluate(reference: str) -> dict[str, str]:
        source = parse_source(reference, is_flake=True)
        source = replace(source, search_path=(f"nixpkgs-lib={nixpkgs_lib()}",))
        made = evaluate_network(nix, nix_dir() / "eval.nix", source, run=run)
        return {name: toplevel.drv_path for name, toplevel in made.toplevels.items()}

    return evaluate


@pytest.fixture
def theirs(nix: Nix, run: ProcessRunner) -> Callable[[str, str], str]:
    """The derivation that Nix itself makes of the same words."""

    def evaluate(reference: str, name: str) -> str:
        flake = absolute(split_reference(reference)[0], Path.cwd())  # 2.8 does not know `path:.`
        toplevel = f'{flake}#nixosConfigurations."{name}".config.system.build.toplevel.drvPath'
        argv = nix.nix_argv(
            "eval", "--impure", "--raw", toplevel, "-I", f"nixpkgs-lib={nixpkgs_lib()}", features=["flakes"]
        )
        done = run(argv, timeout=patience(WHOLE))
        assert done.status == 0, done.stderr
        return done.stdout

    return evaluate


def test_every_spelling_is_the_system_that_nix_itself_makes_of_it(
    shop: Shop, ours: Callable[[str], dict[str, str]], theirs: Callable[[str, str], str], run: ProcessRunner
) -> None:
    store = Path(run.environment["NIX_STORE_DIR"])

    def compare(spellings: dict[str, str]) -> set[str]:
        written = {spelling.replace("TOP", str(shop.top)): name for spelling, name in spellings.items()}
        found = {reference: ours(reference)[name] for reference, name in written.items()}
        assert found == {reference: theirs(reference, name) for reference, name in written.items()}
        return set(found.values())

    assert len(compare(SPELLINGS)) == 5, "dirty, clean and below; web and west"
    assert not list(store.rglob("secret.key")), "git does not know the secret, so it is not copied"
    assert len(compare(WHOLE_FOLDERS)) == 2
    assert list(store.rglob("secret.key"))


def test_the_nearest_flake_above_is_meant_and_a_network_may_have_dots_in_its_name(
    shop: Shop,
    ours: Callable[[str], dict[str, str]],
    theirs: Callable[[str, str], str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert set(ours(".#our.net")) == {"web"}
    below = theirs("./sub", "web")
    monkeypatch.chdir(shop.top / "sub" / "deep")
    assert ours(".")["web"] == below
