"""What users get wrong, at the command line: our own words, the right exit status, never a traceback."""

import shutil
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.builds import BUILDER

TRACE = "Traceback (most recent call last)"
GOOD = """{
  web = {
    deployment.proxmox = { disks = [ { storage = "a1"; size = "1G"; } ]; install.iso = "local:iso/x.iso";
      network = [ { bridge = "vmbr0"; } ]; };
    toplevel = import BUILDER "x" { } "echo >$out";
  };
}""".replace("BUILDER", str(BUILDER))
needs_nix = pytest.mark.skipif(shutil.which("nix-instantiate") is None, reason="there is no Nix here")


@dataclass(frozen=True)
class Told:
    status: int
    out: str
    err: str


@pytest.fixture
def tell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Told]:
    """Run a command as a user without any state in an empty folder."""
    from nixops_proxmox.cli import main

    for kind in ("STATE", "CONFIG", "CACHE"):
        monkeypatch.setenv(f"XDG_{kind}_HOME", str(tmp_path / kind.lower()))
    for name in ("NIXOPS_PROXMOX_STATE", "NIXOPS_PROXMOX_PROFILE", "NIXOPS_PROXMOX_DEPLOYMENT", "PROXMOX_VE_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)

    def run(*words: str) -> Told:
        status = main(list(words))
        captured = capsys.readouterr()
        told = Told(status, captured.out, captured.err)
        assert TRACE not in told.out + told.err, told
        assert "defect" not in told.err, told
        return told

    return run


Tell = Callable[..., Told]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ([], "required"),
        (["deplyo"], "deploy"),
        (["deploy", "--jobs", "0"], "--jobs"),
        (["deploy", "--jobs", "many"], "--jobs"),
        (["deploy", "--until", "redy"], "ready"),
        (["deploy", "--nonsense"], "nonsense"),
        (["deploy", "-f"], "-f"),
        (["lab", "up", "--nodes", "0"], "--nodes"),
        (["lab", "up", "--pve", "3.0"], "3.0"),
        (["lab", "up", "--simulated", "--qemu"], "not allowed"),
        (["ssh"], "MACHINE"),
        (["history", "--json", "--json", "--jsno"], "jsno"),
        (["profile"], "required"),
        (["completion", "klingon"], "klingon"),
    ],
)
def test_a_wrong_word_is_named(tell: Tell, words: list[str], says: str) -> None:
    told = tell(*words)
    assert told.status == 2
    assert says in told.err


@pytest.mark.parametrize("verb", ["deploy", "plan", "stop", "reboot", "rescue", "destroy", "check", "ssh"])
def test_a_folder_without_a_network_is_said_to_be_so(tell: Tell, verb: str) -> None:
    told = tell(verb, *(["web"] if verb == "ssh" else []), *(["--yes"] if verb == "destroy" else []))
    assert told.status in (0, 2)
    assert told.out + told.err


def test_a_network_file_that_is_not_there(tell: Tell) -> None:
    told = tell("deploy", "-f", "nowhere.nix")
    assert told.status == 2
    assert "nowhere.nix" in told.err


@needs_nix
@pytest.mark.nix
@pytest.mark.parametrize(
    ("text", "status", "says"),
    [
        ("{", 7, "syntax error"),
        ("", 7, "syntax error"),
        ("\0\1\2", 7, ""),
        ("{ web = throw ''not today''; }", 7, "not today"),
        ("{ web = abort ''enough''; }", 7, "enough"),
        ("let x = x; in x", 7, "infinite recursion"),
        ("{ web = import ./nowhere.nix; }", 7, "nowhere.nix"),
        ("42", (2, 7), ""),
        ("[ 1 2 ]", (2, 7), ""),
        ("{ web = 42; }", (2, 7), "web"),
        ("{ web = { }; }", (2, 7), "web"),
        ("{ web = { deployment.proxmox = 1; toplevel = 2; }; }", (2, 7), "web"),
        ("{ web = { deployment.proxmox.disks = 7; }; }", (2, 7), "disks"),
        ("{ web = { deployment.proxmox.memroy = 512; }; }", 2, "memory"),
        ("{ web = { deployment.proxmox.memory = -1; }; }", 2, "web.deployment.proxmox.memory"),
        ("{ web = { deployment.proxmox.memory = ''much''; }; }", 2, "web.deployment.proxmox.memory"),
        ("{ web = { deployment.proxmox.network = [ { bridge = ''vm br''; } ]; }; }", 2, "network[0].bridge"),
        ("{ web = { deployment.proxmox.install.from = ''floppy''; }; }", 2, "install.from"),
        ("{ web = { deployment.proxmox.disks = [ { storage = ''a1''; size = ''0''; } ]; }; }", 2, "disks[0].size"),
        ('{ "we b" = { deployment.proxmox = { }; }; }', 2, "we b"),
        ('{ "-rf" = { deployment.proxmox = { }; }; }', 2, "-rf"),
    ],
    ids=range(21),
)
def test_a_network_that_is_nonsense_is_said_to_be_so(
    tell: Tell, tmp_path: Path, text: str, status: int | tuple[int, ...], says: str
) -> None:
    (tmp_path / "network.nix").write_text(text)
    told = tell("plan", "-f", "network.nix")
    assert told.status in (status if isinstance(status, tuple) else (status,)), told
    assert says in told.err and "error" in told.err


@needs_nix
@pytest.mark.nix
@pytest.mark.parametrize("wrong", ['memory = "much"', 'network.net0.mac = "zz"', 'startup = "soon"', "nonsense = 1"])
def test_what_only_we_can_refuse_is_told_before_any_system_is_evaluated(tell: Tell, tmp_path: Path, wrong: str) -> None:
    app = """app = {
        deployment.proxmox = { disks = [ { storage = "a1"; size = "1G"; } ]; network.net0.bridge = "vmbr0"; };
        toplevel = throw "a system was evaluated";
    };"""
    web = (
        f"web = {{ deployment.proxmox.network.net0.bridge = ''vmbr0''; deployment.proxmox.{wrong}; toplevel = null; }};"
    )
    (tmp_path / "network.nix").write_text(f"{{ {app} {web} }}")
    told = tell("plan")
    assert told.status == 2
    assert f"web.deployment.proxmox.{wrong.partition(' ')[0]}" in told.err
    assert "a system was evaluated" not in told.err and "nixops-proxmox-description" not in told.err


@needs_nix
@pytest.mark.nix
@pytest.mark.parametrize(
    ("profiles", "mode", "status", "says"),
    [
        (None, 0o600, 2, "profile"),
        ("", 0o600, 2, "profile"),
        ("[lab", 0o600, 2, "profiles.toml"),
        ("lab = 1", 0o600, 2, "lab"),
        ("[lab]\n", 0o600, 2, "lab"),
        ("[lab]\nendpoint = 'pve'\n", 0o600, 2, "token"),
        ("[lab]\nendpoint = 'pve'\ntoken = 'nonsense'\n", 0o600, 2, "token"),
        ("[lab]\nendpoint = 'pve'\ntoken = 'a@b!c=d'\n", 0o644, 2, "chmod 600"),
        ("[lab]\nendpoint = 'http://pve'\ntoken = 'a@b!c=d'\n", 0o600, 2, "https"),
        ("[lab]\nendpoint = 'pve'\ntoken = 'a@b!c=d'\nverify_ssl = false\n", 0o600, 2, "never switched off"),
        ("[lab]\nendpoint = 'pve'\ntoken = 'a@b!c=d'\nfingerprint = 'xyz'\n", 0o600, 2, "fingerprint"),
        ("[lab]\nendpoint = 'pve'\ntoken = 'a@b!c=d'\nca_file = '/nowhere'\n", 0o600, 2, "/nowhere"),
        ("[lab]\nendpiont = 'pve'\ntoken = 'a@b!c=d'\n", 0o600, 2, "endpoint"),
        ("[lab]\nendpoint = '127.0.0.1:1'\ntoken = 'a@b!c=d'\n", 0o600, 4, "127.0.0.1:1"),
        ("[lab]\nendpoint = 'pve'\ntoken_command = 'exit 3'\ntoken_id = 'a@b!c'\n", 0o600, 2, "token_command"),
        ("[lab]\nendpoint = 'pve'\ntoken_command = '/nowhere'\ntoken_id = 'a@b!c'\n", 0o600, 2, "token_command"),
        ("\ufeff[lab]", 0o600, 2, "profiles.toml"),
    ],
    ids=range(17),
)
def test_a_profile_that_is_nonsense_is_said_to_be_so(
    tell: Tell, tmp_path: Path, profiles: str | None, mode: int, status: int, says: str
) -> None:
    (tmp_path / "network.nix").write_text(GOOD)
    if profiles is not None:
        file = tmp_path / "config" / "nixops-proxmox" / "profiles.toml"
        file.parent.mkdir(parents=True)
        file.write_text(profiles)
        file.chmod(mode)
    told = tell("deploy", "-f", "network.nix", "--profile", "lab", "--until", "reserved")
    assert told.status == status, told
    assert says in told.err
    assert "a@b!c=d" not in told.err, "a token is not shown, however wrong the rest is"


@pytest.mark.parametrize("content", [b"", b"not a database at all" * 100, bytes(range(256)) * 20])
def test_a_state_that_is_no_database_is_said_to_be_so(tell: Tell, tmp_path: Path, content: bytes) -> None:
    state = tmp_path / "state.db"
    state.write_bytes(content)
    state.chmod(0o600)
    told = tell("status", "--state", str(state))
    assert told.status == (3 if content else 2), "an empty file is an empty state: there is no deployment in it"
    assert ("state.db" if content else "deployment") in told.err


def test_a_state_of_a_newer_version_is_refused(tell: Tell, tmp_path: Path) -> None:
    state = tmp_path / "state.db"
    tell("status", "--state", str(state))
    with sqlite3.connect(state) as database:
        tables = [row[0] for row in database.execute("select name from sqlite_master where type = 'table'")]
        (versions,) = [name for name in tables if "version" in name or name == "meta"]
        (column,) = [row[1] for row in database.execute(f"pragma table_info({versions})")][:1]
        database.execute(f"update {versions} set {column} = 9999")
    database.close()
    told = tell("status", "--state", str(state))
    assert told.status == 3
    assert "newer" in told.err or "upgrade" in told.err


@pytest.mark.parametrize("place", ["/proc/nowhere/state.db", "/dev/null/state.db", "gopher://example.org/state"])
def test_a_state_that_cannot_be_opened_is_said_to_be_so(tell: Tell, place: str) -> None:
    told = tell("status", "--state", place)
    assert told.status in (2, 3)
    assert told.err
