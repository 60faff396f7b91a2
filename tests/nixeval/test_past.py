"""What Nix said before is said again only where it can say nothing else. A real Nix judges."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from shutil import copytree

import pytest

from nixops_proxmox.model import Completed
from nixops_proxmox.nixeval.answers import Answer, KeptAnswers
from nixops_proxmox.nixeval.archive import nar_hash
from nixops_proxmox.nixeval.batches import Bounds
from nixops_proxmox.nixeval.evaluate import NetworkSource
from nixops_proxmox.nixeval.evaluations import evaluate_fleet
from nixops_proxmox.nixeval.flakes import LockedFlake
from nixops_proxmox.nixeval.impure import find_doubt
from nixops_proxmox.nixeval.past import has_secrets
from nixops_proxmox.nixeval.runner import ProcessRunner, Tell
from nixops_proxmox.nixeval.tools import Nix
from nixops_proxmox.paths import nix_dir
from tests.nixes import SMALL_LIB, SMALL_NIXOS
from tests.nixeval.work_tree import commit_all, git

FLAKE = """{
  inputs.beside.url = "git+file://FOLDER/beside";
  outputs = { self, beside }: {
    nixopsConfigurations.default = { extra ? "" }: builtins.listToAttrs (map (name: { inherit name; value = {
      deployment.proxmox.description = "SAID";
      toplevel = builtins.trace "warning: ${name} is old" (derivation {
        inherit name; system = "x86_64-linux"; builder = "/bin/sh";
        inherit extra; found = beside.word + import ./parts + builtins.readFile ./greeting;
      });
    }; }) (import ./machines.nix));
  };
}
"""
BESIDE = '{ outputs = _: { word = "WORD"; }; }'


@dataclass
class Counting:
    """Runs Nix, and counts its evaluations."""

    inner: ProcessRunner
    evaluations: int = 0

    def __call__(
        self,
        argv: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        tell: Tell | None = None,
        timeout: float | None = None,
    ) -> Completed:
        self.evaluations += Path(argv[0]).name == "nix-instantiate"
        return self.inner(argv, env=env, tell=tell, timeout=timeout)


@dataclass
class Shop:
    """A flake in git, and another one that it has as an input."""

    folder: Path
    nix: Nix
    run: Counting
    nix_files: Path = field(default_factory=nix_dir)
    warned: list[str] = field(default_factory=list)

    @property
    def top(self) -> Path:
        return self.folder / "shop"

    def plant(self, said: str, machines: str = '[ "web" ]') -> None:
        beside = self.folder / "beside"
        (self.top / "parts").mkdir(parents=True)
        beside.mkdir()
        (beside / "flake.nix").write_text(BESIDE)
        commit_all(beside)
        (self.top / "flake.nix").write_text(FLAKE.replace("FOLDER", str(self.folder)).replace("SAID", said))
        (self.top / "machines.nix").write_text(machines)
        (self.top / "parts" / "default.nix").write_text('"a part"')
        (self.top / "greeting").write_text("hello")
        commit_all(self.top)
        self.answer()  # writes the lock file
        self.commit()

    def commit(self, tree: str = "shop") -> None:
        git(self.folder / tree, "add", "-A")
        git(self.folder / tree, "commit", "-qm", "x")

    def write(self, file: str, text: str) -> None:
        (self.top / file).write_text(text)
        self.commit()

    @property
    def source(self) -> NetworkSource:
        return NetworkSource(flake=str(self.top), past=self.folder / "past")

    def answer(self, source: NetworkSource | None = None) -> tuple[object, Mapping[str, str], bool]:
        """What the machine web says, the derivations, and whether Nix was asked."""
        before = self.run.evaluations
        evaluated, found = evaluate_fleet(
            self.nix,
            self.nix_files / "eval.nix",
            source or self.source,
            run=self.run,
            bounds=lambda: Bounds(2, 4 << 30),
            check=lambda _: None,
            tell=lambda _: None,
            warn=self.warned.append,
        )
        self.warned += evaluated.warnings
        names = list(evaluated.data["machines"])
        found.ensure(names)
        systems = {name: one.drv_path for name in names if (one := found.toplevels().get(name)) is not None}
        said = evaluated.data["machines"]["web"]["deployment"]["proxmox"]["description"]
        return said, systems, self.run.evaluations > before


@pytest.fixture
def shop(tmp_path: Path, nix: Nix, nix_run: ProcessRunner, monkeypatch: pytest.MonkeyPatch) -> Shop:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return Shop(tmp_path, nix, Counting(nix_run))


def _of_beside(shop: Shop) -> NetworkSource:
    (shop.folder / "beside" / "flake.nix").write_text(BESIDE.replace("WORD", "another word"))
    shop.commit("beside")
    (shop.top / "flake.lock").unlink()
    git(shop.top, "rm", "-q", "--cached", "flake.lock")
    shop.run.inner([*shop.nix.nix_argv("flake", "lock", str(shop.top), features=["flakes"])])
    shop.commit()
    return shop.source


def _of_ours(shop: Shop) -> NetworkSource:
    copy = shop.folder / "ours"
    copy.mkdir()
    for file in nix_dir().iterdir():
        if file.is_file():
            (copy / file.name).write_bytes(file.read_bytes())
    (copy / "eval.nix").write_text((copy / "eval.nix").read_text() + "\n# another version\n")
    shop.nix_files = copy
    return shop.source


def _written(file: str, text: str) -> Callable[[Shop], NetworkSource]:
    def change(shop: Shop) -> NetworkSource:
        shop.write(file, text)
        return shop.source

    return change


CHANGES: Mapping[str, Callable[[Shop], NetworkSource]] = {
    "a file that is read": _written("greeting", "good morning"),
    "a file of an imported folder": _written("parts/default.nix", '"another part"'),
    "a file that nothing reads": _written("parts/unused.nix", "1"),
    "an input": _of_beside,
    "our own files": _of_ours,
    "an argument": lambda shop: replace(shop.source, string_arguments={"extra": "more"}),
    "a key that may log in": lambda shop: replace(shop.source, client_keys=("ssh-ed25519 AAAA",)),
    "the deployment's name": lambda shop: replace(shop.source, deployment="other"),
    "what was taken from lists": lambda shop: replace(shop.source, taken='{"web":{}}'),
}


@pytest.mark.nix
def test_what_nix_said_is_reused_until_anything_changes_that_it_is_made_of(shop: Shop) -> None:
    shop.plant("first")
    assert shop.answer()[2], "the first time, and then it is kept"
    for what, change in CHANGES.items():
        source = change(shop)
        shop.warned.clear()
        fresh = shop.answer(source)
        assert fresh[2] and set(fresh[1]) == {"web"}, what
        assert shop.answer(source) == (*fresh[:2], False), f"{what}: the same again, and nobody was asked"
        assert shop.warned == ["web is old"] * 2
        assert shop.answer(replace(source, past=None)) == (*fresh[:2], True), f"{what}: Nix says the same, impurely"


@pytest.mark.nix
def test_each_machine_of_many_is_reused_by_itself(shop: Shop) -> None:
    shop.plant("many", machines='[ "web" ] ++ map toString (builtins.genList (n: n) 9)')
    said, systems, asked = shop.answer()
    assert asked and len(systems) == 10
    assert shop.answer() == (said, systems, False)
    for file in (shop.folder / "past").iterdir():
        if systems["3"] in file.read_text():
            file.unlink()
    before = shop.run.evaluations
    assert shop.answer() == (said, systems, True) and shop.run.evaluations == before + 1


@pytest.mark.nix
def test_a_derivation_that_is_not_in_the_store_any_more_is_evaluated_again(shop: Shop) -> None:
    shop.plant("first")
    fresh = shop.answer()
    Path(fresh[1]["web"]).rename(shop.folder / "elsewhere")
    assert shop.answer()[2]


NIXOS = """{
  inputs.nixpkgs.url = "git+file://FOLDER/nixpkgs";
  outputs = { nixpkgs, ... }: {
    nixosConfigurations.web = nixpkgs.nixosSystem {
      system = "x86_64-linux";
      modules = [ nixpkgs.ours {
        networking.hostName = "web";
        system.stateVersion = "24.05";
        deployment.proxmox = {
          description = "a NixOS";
          disks.scsi0 = { storage = "local-lvm"; size = "16G"; };
          network.net0.bridge = "vmbr0";
        };
      } ];
    };
  };
}
"""


@pytest.mark.nix
def test_a_nixos_of_a_flake_is_reused_with_our_key_in_it(shop: Shop) -> None:
    nixpkgs = shop.folder / "nixpkgs"
    copytree(SMALL_NIXOS, nixpkgs)
    copytree(SMALL_LIB, nixpkgs / "lib")
    copytree(nix_dir(), nixpkgs / "ours")
    for file in nixpkgs.rglob("*.nix"):
        text = file.read_text().replace("<nixpkgs-lib>", "./lib").replace("builtins.currentSystem", '"x86_64-linux"')
        file.write_text(text.replace("../../../examples/demo/", "./"))
    (nixpkgs / "builder.nix").write_text(
        'name: more: text: derivation (more // { inherit name text; system = "x86_64-linux"; builder = "/bin/sh"; })'
    )
    outputs = "{ outputs = _: { nixosSystem = import ./nixos/lib/eval-config.nix; ours = ./ours/proxmox.nix; }; }"
    (nixpkgs / "flake.nix").write_text(outputs)
    commit_all(nixpkgs)
    shop.top.mkdir()
    (shop.top / "flake.nix").write_text(NIXOS.replace("FOLDER", str(shop.folder)))
    commit_all(shop.top)
    shop.answer()
    shop.commit()
    for key in ("ssh-ed25519 AAAA", "ssh-ed25519 BBBB"):
        source = replace(shop.source, client_keys=(key,))
        fresh = shop.answer(source)
        assert fresh[0] == "a NixOS" and fresh[2]
        assert shop.answer(source) == (*fresh[:2], False)
        assert shop.answer(replace(source, past=None)) == (*fresh[:2], True)


@pytest.mark.nix
def test_a_secret_in_a_description_never_gets_to_the_disk(shop: Shop) -> None:
    shop.plant('"; deployment.keys.token.text = "the-secret-of-this-test')
    assert shop.answer()[2] and shop.answer()[2], "it is asked each time"
    assert not any("the-secret" in file.read_text() for file in (shop.folder / "past").rglob("*") if file.is_file())


# What a flake says that is another thing tomorrow. WORD is one that changes.
IMPURE: Mapping[str, str] = {
    "the environment": '${builtins.getEnv "SHOP"}',
    "the environment, by another name": '${builtins.${"get" + "Env"} "SHOP"}',
    "the time, and the environment": '${toString (builtins.currentTime or 0)}${builtins.getEnv "SHOP"}',
    "whether a file is elsewhere": '${if builtins.pathExists ("FOLDER" + "/there") then "there" else "no"}',
    "a file elsewhere": '${builtins.readFile "FOLDER/text"}',
    "a folder elsewhere": '${toString (builtins.attrNames (builtins.readDir "FOLDER/folder"))}',
    "NIX_PATH": "${import <words>}",
    "what is fetched without a hash": '${builtins.readFile (builtins.fetchurl "file://FOLDER/text")}',
}


@pytest.mark.nix
@pytest.mark.parametrize("what", IMPURE)
def test_what_a_flake_reads_elsewhere_is_read_each_time(
    shop: Shop, what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = []
    for word in ("before", "there"):
        _plant_elsewhere(tmp_path, monkeypatch, word)
        settings = f"{shop.run.inner.environment['NIX_CONFIG']}\ntarball-ttl = 0\n"
        shop.run.inner.environment = {
            **shop.run.inner.environment,
            "NIX_PATH": f"words={tmp_path / word}",
            "NIX_CONFIG": settings,
        }
        if not shop.top.exists():
            shop.plant(IMPURE[what].replace("FOLDER", str(tmp_path)))
        said.append(shop.answer())
    assert "there" not in str(said[0][0]) and "there" in str(said[1][0])
    assert shop.answer()[2], "it is asked each time"


def _plant_elsewhere(folder: Path, monkeypatch: pytest.MonkeyPatch, word: str) -> None:
    monkeypatch.setenv("SHOP", word)
    (folder / "folder").mkdir(exist_ok=True)
    (folder / "folder" / word).write_text("")
    (folder / "text").write_text(word)
    (folder / word).write_text(f'"{word}"')


def _dirty(shop: Shop) -> NetworkSource:
    (shop.top / "greeting").write_text("not committed")
    return shop.source


def _refused(shop: Shop) -> NetworkSource:
    settings = f"{shop.run.inner.environment['NIX_CONFIG']}\neval-cache = false\n"
    shop.run.inner.environment = {**shop.run.inner.environment, "NIX_CONFIG": settings}
    return shop.source


def _searching(shop: Shop) -> NetworkSource:
    return replace(shop.source, search_path=(f"words={shop.folder}",))


def _unlocked_input(shop: Shop) -> NetworkSource:
    """A path without a hash, which the lock file does not have."""
    shop.write("flake.nix", (shop.top / "flake.nix").read_text().replace("git+file", "path"))
    git(shop.top, "rm", "-q", "flake.lock")
    git(shop.top, "commit", "-qm", "x")
    return shop.source


ASKED_ANEW: Mapping[str, Callable[[Shop], NetworkSource]] = {
    "changes that are not committed": _dirty,
    "Nix's own setting": _refused,
    "a search path": _searching,
    "a lock file that is not committed": _unlocked_input,
}


@pytest.mark.nix
@pytest.mark.parametrize("why", ASKED_ANEW)
def test_nix_is_asked_each_time_where_not_everything_is_locked(shop: Shop, why: str) -> None:
    shop.plant("first")
    source = ASKED_ANEW[why](shop)
    assert [shop.answer(source)[2] for _ in range(2)] == [True, True]


@pytest.mark.nix
def test_a_variable_of_nixpkgs_counts(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    shop.plant("first")
    shop.answer()
    assert not shop.answer()[2]
    monkeypatch.setenv("NIXPKGS_ALLOW_UNFREE", "1")
    assert shop.answer()[2]


@pytest.mark.nix
def test_the_hash_of_a_folder_is_nixs_own(nix: Nix, nix_run: ProcessRunner, tmp_path: Path) -> None:
    folder = tmp_path / "some files"
    (folder / "b" / "empty").mkdir(parents=True)
    for name, mode in {"run": 0o755, "a.nix": 0o644, "b-": 0o600, "b/ü": 0o640}.items():
        (folder / name).write_bytes(name.encode() * 7)
        (folder / name).chmod(mode)
    (folder / "link").symlink_to("b/ü")
    told = nix_run(nix.nix_argv("hash", "path", str(folder))).stdout.strip()
    assert nar_hash(folder) == told


@pytest.mark.parametrize(
    ("url", "pinned"),
    [
        ("git+file:///shop?ref=master&rev=1b72a3875d15a0cca496102e940e9dc7c5628b52", True),
        ("path:/shop?lastModified=1&narHash=sha256-kbs2fp5l0OgERvbg16CbbuuiPw3djpchK1WeaBaqMHA=", True),
        ("github:me/shop/1b72a3875d15a0cca496102e940e9dc7c5628b52", True),
        ("github:me/shop/1b72a3875d15a0cca496102e940e9dc7c5628b52?dir=eu", True),
        ("git+file:///shop", False),
        ("git+file:///shop?ref=rev", False),
        ("git+file:///shop?dirtyRev=1b72a3875d15a0cca496102e940e9dc7c5628b52-dirty", False),
        ("github:me/shop", False),
        ("github:me/shop/main", False),
        ("path:/shop", False),
    ],
)
def test_a_reference_is_pinned_by_a_revision_or_a_hash(url: str, pinned: bool) -> None:
    assert LockedFlake(url).is_pinned is pinned


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("{ a = builtins.readFile ./x; b = builtins.pathExists ./x; c = builtins.pathExists (../x + y); }", ""),
        ("with builtins; map toString", ""),
        ("let inherit (builtins) attrNames; in attrNames", ""),
        ("import ./x", ""),
        ("__getEnv", "getEnv"),
        ("let inherit (builtins) getEnv; in getEnv", "getEnv"),
        ("builtins.currentTime", "currentTime"),
        ("pkgs.lib.inPureEvalMode", "inPureEvalMode"),
        ("builtins.pathExists file", "pathExists"),
        ("builtins ? x", "builtins"),
        ('builtins."get${y}"', "builtins"),
        ("f builtins", "builtins"),
    ],
)
def test_a_flakes_files_are_looked_through_for_what_is_not_locked(tmp_path: Path, text: str, word: str) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "a.nix").write_text(text)
    (tmp_path / "README.md").write_text("builtins.getEnv")
    (tmp_path / "image").write_bytes(b"\0getEnv")
    assert find_doubt(tmp_path) == (f"sub/a.nix has the word {word}" if word else "")


SECRET_SHAPES = [
    ({"keys": {"k": {"text": "secret"}}}, True),
    ({"files": {"f": {"text": "secret"}}}, True),
    ({"keys": {"k": "what is this?"}}, True),
    ({"keys": ["what is this?"]}, True),
    ({"keys": {"k": {"text": None, "keyFile": "/k"}}}, False),
    ({"proxmox": {}}, False),
    ("what is this?", True),
]


@pytest.mark.parametrize(("deployment", "secret"), SECRET_SHAPES)
def test_a_secret_in_the_description_is_not_kept(deployment: object, secret: bool) -> None:
    assert has_secrets({"deployment": deployment}) is secret
    assert has_secrets({"network": {}, "machines": {"a": {}, "b": {"deployment": deployment}}}) is secret


def test_a_file_that_is_no_answer_is_none(tmp_path: Path) -> None:
    answers = KeptAnswers(tmp_path / "past")
    answers.keep("k", Answer({"a": 1}, ("old",)))
    assert answers.find("k") == Answer({"a": 1}, ("old",)) and answers.find("other") is None
    (file,) = (tmp_path / "past").iterdir()
    assert file.stat().st_mode & 0o777 == 0o600 and file.parent.stat().st_mode & 0o777 == 0o700
    whole = file.read_bytes()
    for junk in (b"", whole[:-1], b"[]", b'{"said": 1}', b'{"said": 1, "warnings": [2]}', b"\xff", b"[" * 100_000):
        file.write_bytes(junk)
        assert answers.find("k") is None


def test_what_was_used_last_stays_and_what_was_never_finished_goes(tmp_path: Path) -> None:
    answers = KeptAnswers(tmp_path)
    for number in range(6):
        answers.keep(str(number), Answer(number))
        os.utime(tmp_path / f"{number}.json", (number, number))
    answers.find("0")
    (tmp_path / "killed.new").write_text("{")
    answers.sweep()
    assert (tmp_path / "killed.new").exists(), "somebody may be writing it"
    os.utime(tmp_path / "killed.new", (0, 0))
    answers.sweep(most=3)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["0.json", "4.json", "5.json"]
