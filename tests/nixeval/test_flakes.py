"""Flakes as people write them, with a real Nix."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from nixops_proxmox.errors import EvaluationFailed
from nixops_proxmox.nixeval.evaluate import Evaluated, evaluate_network, parse_source
from nixops_proxmox.nixeval.flakes import absolute, local_folder, split_reference
from nixops_proxmox.nixeval.runner import ProcessRunner
from nixops_proxmox.nixeval.tools import Nix
from nixops_proxmox.paths import nix_dir
from tests.nixeval.work_tree import SECRET, commit_all, git, plant, write_flake

FLAKE = """{
  outputs = { self }: {
    nixopsConfigurations.default.web.deployment.proxmox.description = "PLACE";
    nixopsConfigurations."eu.west".web.deployment.proxmox.description = "PLACE eu.west";
  };
}
"""


@pytest.mark.parametrize(
    ("reference", "flake", "name"),
    [
        (".", ".", ""),
        ("#web", ".", "web"),
        (".#eu.west", ".", "eu.west"),
        ('.#"eu.west"', ".", "eu.west"),
        (".#%22eu%20west%22", ".", "eu west"),
        ("github:me/net?dir=a#b", "github:me/net?dir=a", "b"),
    ],
)
def test_a_reference_is_a_flake_and_a_name(reference: str, flake: str, name: str) -> None:
    assert split_reference(reference) == (flake, name)


def test_relative_urls_are_made_whole_and_nothing_else_is_touched(tmp_path: Path) -> None:
    assert absolute("path:.?dir=x", tmp_path) == f"path:{tmp_path}?dir=x"
    assert absolute("git+file:./y", tmp_path) == f"git+file:{tmp_path}/y"
    for same in (".", "./x", "path:/x", "git+file:///x", "github:a/b", "nixpkgs"):
        assert absolute(same, tmp_path) == same


def test_only_local_references_have_a_folder(tmp_path: Path) -> None:
    assert local_folder(".?dir=x", tmp_path) == tmp_path / "x"
    assert local_folder("git+file:///a/b", tmp_path) == Path("/a/b")
    assert local_folder("nixpkgs", tmp_path) is None
    assert local_folder("github:a/b", tmp_path) is None


class Tree:
    """A work tree: a flake at its top and another in `sub`, an ignored secret, and a change that is not committed."""

    def __init__(self, top: Path, nix: Nix, run: ProcessRunner, monkeypatch: pytest.MonkeyPatch) -> None:
        self.top, self._nix, self._run, self._monkeypatch = top, nix, run, monkeypatch
        plant(top, FLAKE)
        commit_all(top)
        write_flake(top, FLAKE, "dirty")

    def evaluate(self, reference: str, here: Path | None = None) -> Evaluated:
        self._monkeypatch.chdir(here or self.top)
        source = parse_source(reference, is_flake=True)
        return evaluate_network(self._nix, nix_dir() / "eval.nix", source, run=self._run)

    def told(self, reference: str, here: Path | None = None) -> object:
        return self.evaluate(reference, here).data["machines"]["web"]["deployment"]["proxmox"]["description"]

    def stored(self) -> Iterator[Path]:
        store = Path(self._run.environment["NIX_STORE_DIR"])
        return (file for file in store.rglob("*") if file.is_file() and SECRET.encode() in file.read_bytes())


@pytest.fixture
def tree(tmp_path: Path, nix: Nix, nix_run: ProcessRunner, monkeypatch: pytest.MonkeyPatch) -> Tree:
    top = tmp_path / "shop"
    top.mkdir()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("GIT_CONFIG_COUNT", "1")
    monkeypatch.setenv("GIT_CONFIG_KEY_0", "protocol.file.allow")
    monkeypatch.setenv("GIT_CONFIG_VALUE_0", "always")
    return Tree(top, nix, nix_run, monkeypatch)


@pytest.mark.nix
def test_every_spelling_means_what_nix_build_means(tree: Tree) -> None:
    spellings = {
        ".": "dirty",
        "#default": "dirty",
        ".#default": "dirty",
        ".#eu.west": "dirty eu.west",
        '.#"eu.west"': "dirty eu.west",
        ".#nixopsConfigurations.eu.west": "dirty eu.west",
        "./sub": "sub",
        "./sub#eu.west": "sub eu.west",
        ".?dir=sub#default": "sub",
        "git+file:.": "dirty",
        f"git+file://{tree.top}?dir=sub": "sub",
        f"git+file:{tree.top}#eu.west": "dirty eu.west",
        str(tree.top): "dirty",
    }
    assert {spelling: tree.told(spelling) for spelling in spellings} == spellings
    assert tree.told(".", tree.top / "sub" / "deep") == "sub", "the nearest flake above"
    assert not list(tree.stored()), "git does not know the secret"
    assert tree.told("path:.") == "dirty"
    assert list(tree.stored()), "with path: the whole folder is meant, as nix build has it"


@pytest.mark.nix
def test_worktrees_and_folders_without_git_are_flakes_too(tree: Tree, tmp_path: Path) -> None:
    git(tree.top, "worktree", "add", "-q", str(tmp_path / "other"))
    (tmp_path / "other" / "secret.key").write_text(SECRET)
    assert tree.told(".", tmp_path / "other") == "clean"
    assert not list(tree.stored())
    (tmp_path / "plain").mkdir()
    plant(tmp_path / "plain", FLAKE)
    assert tree.told("../plain#eu.west") == "clean eu.west"


@pytest.mark.nix
def test_submodules_are_there_when_asked_for(tree: Tree, tmp_path: Path) -> None:
    outer = tmp_path / "outer"
    outer.mkdir()
    (outer / "flake.nix").write_text("{ outputs = { self }: (import ./shop/flake.nix).outputs { inherit self; }; }")
    git(outer, "init", "-q", ".")
    git(outer, "submodule", "add", "-q", str(tree.top), "shop")
    git(outer, "add", "-A")
    git(outer, "commit", "-qm", "x")
    (outer / "shop" / "secret.key").write_text(SECRET)
    assert tree.told(f"git+file://{outer}?submodules=1") == "clean"
    assert not list(tree.stored())
    with pytest.raises(EvaluationFailed, match="shop"):
        tree.told(".", outer)


@pytest.mark.nix
def test_what_nix_says_about_the_tree_is_a_warning(tree: Tree) -> None:
    assert tree.evaluate(".").warnings[0] == f"Git tree '{tree.top}' is dirty"


@pytest.mark.nix
@pytest.mark.parametrize("reference", [".#nope", "./nowhere", "flake:no-such-flake"])
def test_a_flake_that_is_not_there_is_named_as_it_was_written(tree: Tree, reference: str) -> None:
    with pytest.raises(EvaluationFailed, match=rf"(?s)^{reference}: .*error: "):
        tree.told(reference)
