"""The first hour: from an address to a profile, a token with its rights, and a network that evaluates."""

import argparse
import os
import stat
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator, Sequence
from io import StringIO
from pathlib import Path

import pytest

from nixops_proxmox.cli import main, parse
from nixops_proxmox.cli.init import run
from nixops_proxmox.display.screen import Screen
from nixops_proxmox.errors import ConfigError
from nixops_proxmox.lab.faults import Fault
from nixops_proxmox.lab.storage import Storage
from nixops_proxmox.lab.testing import RunningLab, start_lab
from tests.cli.test_verbs import ROOT, Done
from tests.pace import wait_until

WHO = "nixops@pve!deploy"
Init = Callable[..., Done]


@pytest.fixture
def lab() -> Iterator[RunningLab]:
    with start_lab() as running:
        running.lab.add_file("local", "iso", _iso(running), name="nixops-proxmox-installer.iso")
        yield running


def _iso(running: RunningLab) -> Path:
    file = Path(running.ca_file).with_name("installer.iso")
    file.write_bytes(b"CD001")
    return file


def enter_empty_folder(home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """As somebody who has set up nothing yet. The folder is `shop` in `home`."""
    folder = home / "shop"
    folder.mkdir()
    for name, value in {"XDG_CONFIG_HOME": "config", "XDG_STATE_HOME": "state", "HOME": "."}.items():
        monkeypatch.setenv(name, str(home / value))
    monkeypatch.delenv("NIX_PATH", raising=False)
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def init(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Init:
    """The verb in an empty folder, in this process. `stdin` is no terminal; `answers` are typed on one."""
    enter_empty_folder(tmp_path, monkeypatch)

    def call(*words: str, stdin: str = "", answers: Sequence[str] | None = None) -> Done:
        out, err = StringIO(), StringIO()
        with pytest.MonkeyPatch.context() as around:
            around.setattr("sys.stdin", StringIO(stdin))
            around.setattr("sys.stdout", out)
            around.setattr("sys.stderr", err)
            if answers is None:
                return Done(main(["init", *words]), out.getvalue(), err.getvalue())
            typed = iter(answers)
            screen = Screen(out, err, ask_from=lambda: next(typed))
            return Done(run(parse(["init", *words]), screen), out.getvalue(), err.getvalue())

    return call


def profile(tmp_path: Path) -> dict[str, str]:
    file = tmp_path / "config" / "nixops-proxmox" / "profiles.toml"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    found: dict[str, str] = tomllib.loads(file.read_text())["default"]
    return found


def make(lab: RunningLab) -> list[str]:
    return ["init", "--url", lab.url, "--fingerprint", lab.fingerprint, "--admin", "root@pam", "--yes"][1:]


def tokens(lab: RunningLab) -> list[str]:
    """Asked on the lab's own loop: a call that is still being answered may be about to add one."""

    async def listed() -> list[str]:
        return [f"{user.userid}!{name}" for user in lab.cluster.access.users.values() for name in user.tokens]

    return lab.run(listed())


def test_one_command_makes_a_profile_a_token_with_its_rights_and_a_network(
    init: Init, lab: RunningLab, tmp_path: Path
) -> None:
    done = init(*make(lab), stdin=f"{lab.root_password}\n")
    assert done.status == 0, done.err
    table = profile(tmp_path)
    assert (table["url"], table["token_id"]) == (lab.url, WHO)
    assert table["token_secret"] not in done.out + done.err and lab.root_password not in done.out + done.err
    assert lab.root_password not in str(table)
    assert "✓ permissions: all" in done.err and "✓ installer ISO: local:iso/nixops-proxmox-installer.iso" in done.err
    assert "✗" not in done.err
    assert done.err.splitlines()[-2:] == ["  nixops-proxmox plan", "  nixops-proxmox deploy"]
    text = (tmp_path / "shop" / "network.nix").read_text()
    assert 'storage = "local-lvm"' in text and 'bridge = "vmbr0"' in text and "profile" not in text


def test_a_second_run_changes_nothing_and_overwrites_nothing(init: Init, lab: RunningLab, tmp_path: Path) -> None:
    init(*make(lab), stdin=f"{lab.root_password}\n")
    network = tmp_path / "shop" / "network.nix"
    network.write_text("{ }  # mine")
    before, calls = profile(tmp_path), len(lab.calls)
    again = init()
    assert again.status == 0, again.err
    assert profile(tmp_path) == before and network.read_text() == "{ }  # mine"
    assert "is there, and stays as it is" in again.err
    assert {call["method"] for call in lab.calls[calls:]} == {"GET"}
    assert "has all that is needed" in init("--admin", "root@pam", stdin=f"{lab.root_password}\n").err
    other = init("--url", "https://pve9.example.org:8006")
    assert other.status == 2 and "stays as it is" in other.err


def test_a_folder_with_a_network_of_another_name_gets_no_second_one(
    init: Init, lab: RunningLab, tmp_path: Path
) -> None:
    (tmp_path / "shop").mkdir(exist_ok=True)
    (tmp_path / "shop" / "flake.nix").write_text("{ }  # mine")
    done = init(*make(lab), stdin=f"{lab.root_password}\n")
    assert done.status == 0 and "flake.nix is there, and stays as it is" in done.err
    assert [path.name for path in (tmp_path / "shop").iterdir()] == ["flake.nix"]


def test_the_dialog_needs_no_option(init: Init, lab: RunningLab, tmp_path: Path) -> None:
    """The address, the fingerprint, no token yet, who makes it, which storage, which bridge, agreed."""
    typed = [lab.url, "y", "n", "root@pam", "shared", "vmbr9", "vmbr1", "y"]
    done = init(answers=[*typed], stdin=f"{lab.root_password}\n")
    assert done.status == 0, done.err
    assert "there is no 'vmbr9'" in done.err
    text = (tmp_path / "shop" / "network.nix").read_text()
    assert 'storage = "shared"' in text and 'bridge = "vmbr1"' in text
    assert tokens(lab).count(WHO) == 1


def test_who_does_not_agree_gets_the_commands_for_an_administrator(init: Init, lab: RunningLab) -> None:
    before = tokens(lab)
    with pytest.raises(ConfigError, match="nothing was changed") as refused:
        init(answers=[lab.url, "y", "n", "", "", "", "n"], stdin=f"{lab.root_password}\n")
    assert tokens(lab) == before
    lines = refused.value.hint.splitlines()
    assert "pveum user add nixops@pve --comment 'made by nixops-proxmox'" in lines
    assert any(line.startswith("pveum user token add nixops@pve deploy --privsep 1") for line in lines)
    assert any(line.startswith("pveum acl modify /storage/local-lvm --roles NixOpsProxmox") for line in lines)


def test_a_token_of_ones_own_is_tested_and_its_missing_rights_are_listed(
    init: Init, lab: RunningLab, tmp_path: Path
) -> None:
    who, _, secret = lab.token.partition("=")
    done = init(
        "--url", lab.url, "--fingerprint", lab.fingerprint, "--token-id", who, "--write", "none", stdin=f"{secret}\n"
    )
    assert done.status == 0, done.err
    assert profile(tmp_path)["token_secret"] == secret and not list((tmp_path / "shop").iterdir())


def test_a_secret_may_stay_with_the_command_that_knows_it(init: Init, lab: RunningLab, tmp_path: Path) -> None:
    who, _, secret = lab.token.partition("=")
    words = [
        "init",
        "--url",
        lab.url,
        "--fingerprint",
        lab.fingerprint,
        "--token-id",
        who,
        "--secret-command",
        "echo x",
    ]
    done = init(*words[1:-1], f"echo {secret}", "--write", "flake")
    assert done.status == 0, done.err
    assert profile(tmp_path)["token_command"] == f"echo {secret}" and "token_secret" not in profile(tmp_path)
    assert {path.name for path in (tmp_path / "shop").iterdir()} == {"flake.nix", "machines.nix"}


def test_a_token_that_may_only_look_gets_the_role_for_it_and_no_other(
    init: Init, lab: RunningLab, tmp_path: Path
) -> None:
    done = init(*make(lab), "--read-only", stdin=f"{lab.root_password}\n")
    assert done.status == 0, done.err
    assert not list((tmp_path / "shop").iterdir())
    given = {(entry.who, entry.role) for entry in lab.cluster.access.permissions.entries if "nixops@pve" in entry.who}
    assert given == {(WHO, "PVEAuditor"), ("nixops@pve", "PVEAuditor")}
    again = init("--admin", "root@pam", "--read-only", stdin=f"{lab.root_password}\n")
    assert again.status == 0 and "has all that is needed" in again.err, again.err


def test_without_a_terminal_each_missing_answer_names_its_option(init: Init, lab: RunningLab) -> None:
    assert "add --url" in init().err
    unknown = init("--url", lab.url)
    assert unknown.status == 2 and "we sent nothing" in unknown.err
    (hint,) = [line for line in unknown.err.splitlines() if line.startswith("hint:")]
    pin = hint.partition("--fingerprint ")[2]
    known = init("--url", lab.url, "--fingerprint", pin)
    assert known.status == 2 and "--admin root@pam makes the token" in known.err
    wrong = init(
        "--url", lab.url, "--profile", "x", "--fingerprint", pin.replace(pin[0], "0" if pin[0] != "0" else "1")
    )
    assert wrong.status == 2 and "shows another certificate" in wrong.err


def test_what_is_found_is_one_json_value(init: Init, lab: RunningLab) -> None:
    done = init(*make(lab), "--json", stdin=f"{lab.root_password}\n")
    found = done.value
    assert (found["profile"], found["identity"], found["network"]) == ("default", WHO, "network.nix")
    assert [node["name"] for node in found["nodes"]] == ["pve1", "pve2", "pve3"]
    assert found["bridges"]["vmbr0"] == ["pve1", "pve2", "pve3"] and found["next"][-1] == "nixops-proxmox deploy"


def effects() -> list[str]:
    return ["/access/users$", "/access/users/.*/token/", "/access/roles$", "/access/acl$"]


@pytest.mark.parametrize("action", ["drop_before", "drop_after"])
@pytest.mark.parametrize("path", effects())
def test_it_ends_well_after_the_answer_to_any_change_was_lost(
    init: Init, lab: RunningLab, tmp_path: Path, path: str, action: str
) -> None:
    lab.faults.add(Fault(action, "POST|PUT", path))  # type: ignore[arg-type]
    broken = init(*make(lab), stdin=f"{lab.root_password}\n")
    assert broken.status == 4, broken.err
    assert not (tmp_path / "shop" / "network.nix").exists()
    again = init(*make(lab), stdin=f"{lab.root_password}\n")
    assert again.status == 0, again.err
    assert tokens(lab).count(WHO) == 1 and "✓ permissions: all" in again.err
    assert {path.name for path in (tmp_path / "config" / "nixops-proxmox").iterdir()} == {"profiles.toml"}


def test_a_run_that_is_killed_leaves_no_token_that_nobody_knows(init: Init, lab: RunningLab, tmp_path: Path) -> None:
    """It is killed while PVE has made the token, and before its secret is here."""
    lab.faults.add(Fault("slow", "POST", "/access/users/.*/token/", seconds=25))
    argv = [sys.executable, "-m", "nixops_proxmox", "init", *make(lab)]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, env={**os.environ, "PYTHONPATH": str(ROOT)}) as killed:
        assert killed.stdin is not None
        killed.stdin.write(f"{lab.root_password}\n".encode())
        killed.stdin.close()
        # a busy machine starts it slowly; each of its own waits ends, and then it does
        wait_until(lambda: WHO in tokens(lab) or killed.poll() is not None, 120, "the token")
        assert killed.poll() is None, f"init ended with {killed.returncode}, and no token was made"
        killed.kill()
    assert "token_secret" not in profile(tmp_path) and profile(tmp_path)["token_id"] == WHO
    again = init(*make(lab), stdin=f"{lab.root_password}\n")
    assert again.status == 0, again.err
    assert "in place of the one whose secret is lost" in again.err
    assert tokens(lab).count(WHO) == 1


BARE = [Storage("local", "dir", ("iso", "backup"), path="/var/lib/vz", total=10 << 30)]


def test_what_a_cluster_lacks_is_said_with_where_to_make_it(init: Init, tmp_path: Path) -> None:
    with start_lab(storages=BARE) as lab:
        no_disks = init(*make(lab), stdin=f"{lab.root_password}\n")
    assert no_disks.status == 2
    assert "we see no storage that takes disks" in no_disks.err and "Datacenter, Storage" in no_disks.err
    assert not (tmp_path / "shop" / "network.nix").exists()


def test_without_an_installer_uploading_it_is_the_next_step(init: Init) -> None:
    with start_lab() as lab:
        done = init(*make(lab), stdin=f"{lab.root_password}\n")
    assert done.status == 0, done.err
    steps = done.err.partition("next:\n")[2].splitlines()
    assert steps[0].endswith("#installer-iso") and steps[1].strip().startswith(
        "nixops-proxmox iso upload --storage local"
    )


def test_words_that_do_not_fit_are_refused(init: Init) -> None:
    for words in (["--file", "x.nix"], ["--lab", "--url", "https://a"]):
        assert init(*words).status == 2
    assert isinstance(parse(["init", "--write", "flake"]), argparse.Namespace)
