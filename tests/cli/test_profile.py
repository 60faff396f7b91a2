import stat
import tomllib
from pathlib import Path

import pytest

from nixops_proxmox.cli.profile import remove_profile, write_profile
from nixops_proxmox.errors import ConfigError

from .test_verbs import Cli, cli

__all__ = ["cli"]

ADD = ["profile", "add", "home", "--url", "https://pve.example.org:8006", "--token-id", "deploy@pve!nixops"]
SECRET = "b7c0ffee-0000-4000-8000-000000000000"


def test_an_added_profile_is_listed_and_shown_without_its_secret(cli: Cli, tmp_path: Path) -> None:
    done = cli(*ADD, stdin=f"{SECRET}\n", real=True)
    assert done.status == 0, done.err
    file = tmp_path / "config" / "nixops-proxmox" / "profiles.toml"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert SECRET in file.read_text()
    listed = cli("profile", "list", real=True)
    assert listed.rows[1] == ["home", "https://pve.example.org:8006", "deploy@pve!nixops", "the", "system's"]
    shown = cli("profile", "show", "home", "--json", real=True)
    assert shown.value["identity"] == "deploy@pve!nixops"
    for output in (done, listed, shown, cli("profile", "show", "home", real=True)):
        assert SECRET not in output.out + output.err


def test_a_profile_is_replaced_and_removed_by_word(cli: Cli) -> None:
    cli(*ADD, stdin=f"{SECRET}\n", real=True)
    assert cli(*ADD, stdin=f"{SECRET}\n", real=True).status == 3
    assert cli(*ADD, "--yes", "--secret-command", "pass show x", real=True).status == 0
    assert cli("profile", "show", "home", "--json", real=True).value["secret"] == "by a command"
    assert [one["name"] for one in cli("profile", "list", "--json", real=True).value["profiles"]] == ["home"]
    assert cli("profile", "remove", "home", real=True).status == 0
    assert cli("profile", "remove", "home", real=True).status == 2
    assert "there is none yet" in cli("profile", "list", real=True).err


@pytest.mark.parametrize(
    ("words", "stdin", "told"),
    [
        (ADD, "", "no secret was given"),
        ([*ADD[:-1], "nonsense"], "x\n", "user@realm!name"),
        ([*ADD, "--fingerprint", "zz"], "x\n", "fingerprint"),
        ([*ADD, "--username", "root@pam"], "x\n", "not allowed with"),
        (["profile", "show", "hom"], "", "no profile 'hom'"),
        (["profile", "lst"], "", "did you mean 'list'?"),
    ],
)
def test_what_is_wrong_is_said_before_anything_is_written(
    cli: Cli, tmp_path: Path, words: list[str], stdin: str, told: str
) -> None:
    done = cli(*words, stdin=stdin, real=True)
    assert done.status == 2
    assert told in done.err
    assert not (tmp_path / "config" / "nixops-proxmox" / "profiles.toml").exists()


HAND_WRITTEN = """\
# mine
[default]
url = "https://a"  # the old one

  [ profiles.lab ] # soon replaced
url = "https://b"

# the last
["odd name"]
url = "https://c"
"""


def test_the_rest_of_the_file_stays_as_it_is(tmp_path: Path) -> None:
    file = tmp_path / "deep" / "profiles.toml"
    write_profile(file, "lab", {"url": "https://x"})
    file.write_text(HAND_WRITTEN)
    write_profile(file, "lab", {"url": "https://new", "token": 'a"b\\c\u00e9'})
    text = file.read_text()
    assert text.startswith('# mine\n[default]\nurl = "https://a"  # the old one\n')
    assert tomllib.loads(text)["profiles"]["lab"] == {"url": "https://new", "token": 'a"b\\c\u00e9'}
    write_profile(file, "odd name", {"url": "https://d"})
    remove_profile(file, "lab")
    assert {name: table["url"] for name, table in tomllib.loads(file.read_text()).items()} == {
        "default": "https://a",
        "odd name": "https://d",
    }
    assert [entry.name for entry in file.parent.iterdir()] == ["profiles.toml"]


@pytest.mark.parametrize("text", ['lab = { url = "x" }\n', 'a = """\n[lab]\n"""\nb = 1\n', '"lab".url = "x"\n'])
def test_a_file_that_is_written_in_another_way_is_edited_as_well(tmp_path: Path, text: str) -> None:
    file = tmp_path / "profiles.toml"
    file.write_text(text)
    before = tomllib.loads(text)
    write_profile(file, "lab", {"url": "https://x"})
    assert tomllib.loads(file.read_text()) == {**before, "lab": {"url": "https://x"}}


def test_a_file_that_is_no_toml_is_left_alone(tmp_path: Path) -> None:
    file = tmp_path / "profiles.toml"
    file.write_text("not toml at all")
    with pytest.raises(ConfigError, match="is not TOML"):
        write_profile(file, "lab", {"url": "https://x"})
    assert file.read_text() == "not toml at all"
