"""Keys that are written into a guest: by the very script, in a folder of the test's."""

import getpass
import grp
import os
import stat
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from nixops_proxmox.couriers import KeyCourier
from nixops_proxmox.errors import ConfigError, GuestError
from nixops_proxmox.model import Completed, Machine
from nixops_proxmox.spec.placed_file import PlacedFile
from nixops_proxmox.spec.sent_key import SentKey

WEB = Machine("shop", "web")
ME = {"user": getpass.getuser(), "group": grp.getgrgid(os.getgid()).gr_name}


class Here:
    """A guest that is this computer. `cut`: how much of what is sent gets through."""

    def __init__(self, cut: int | None = None) -> None:
        self.cut, self.scripts = cut, list[str]()

    def run(self, script: str, *, stdin: bytes = b"", timeout: float = 60) -> Completed:
        self.scripts.append(script)
        done = subprocess.run(["sh", "-c", script], input=stdin[: self.cut], capture_output=True, timeout=timeout)
        return Completed(done.returncode, done.stdout.decode(), done.stderr.decode())


def courier(folder: Path, *keys: dict[str, Any], printed: bytes = b"printed") -> KeyCourier:
    made = [SentKey(**({"name": "token", "dest_dir": str(folder)} | ME | key)) for key in keys]

    def run(argv: Sequence[str]) -> bytes:
        if argv[0] == "fail":
            raise ValueError("it ended with exit status 3: no such entry")
        return printed

    return KeyCourier(made, run)


def send(one: KeyCourier, guest: Here) -> Sequence[str]:
    return one.send(WEB, guest)


def lacking(one: KeyCourier, guest: Here) -> Sequence[str]:
    return one.find_lacking(WEB, guest)


def test_a_key_is_there_whole_with_its_mode_and_no_script_holds_it(tmp_path: Path) -> None:
    here, target = Here(), tmp_path / "deep" / "er"
    secret = "a secret\nof two lines\0and more\n"
    assert send(courier(target, {"text": secret, "permissions": "0440"}), here) == []
    path = target / "token"
    assert path.read_text() == secret and stat.S_IMODE(path.stat().st_mode) == 0o440
    assert os.listdir(target) == ["token"]
    assert not any("secret" in script for script in here.scripts)


def test_the_same_key_stays_and_another_one_takes_its_place(tmp_path: Path) -> None:
    one, other, here = courier(tmp_path, {"text": "one"}), courier(tmp_path, {"text": "other"}), Here()
    assert lacking(one, here) == ["token"]
    send(one, here)
    node = (tmp_path / "token").stat().st_ino
    send(one, here)
    assert (tmp_path / "token").stat().st_ino == node and lacking(one, here) == []
    assert lacking(other, here) == ["token"]
    send(other, here)
    assert (tmp_path / "token").read_text() == "other"


def test_half_a_key_is_never_there(tmp_path: Path) -> None:
    with pytest.raises(GuestError, match=r"web: the key token could not be written to .*: the connection broke"):
        send(courier(tmp_path, {"text": "x" * 100}), Here(cut=40))
    assert os.listdir(tmp_path) == []


def test_a_key_whose_user_is_not_there_yet_is_told_and_belongs_to_root_until_then(tmp_path: Path) -> None:
    assert send(courier(tmp_path, {"text": "x", "user": "missing-user"}), Here()) == ["token"]
    assert stat.S_IMODE((tmp_path / "token").stat().st_mode) == 0o600


def test_what_a_command_prints_only_has_to_be_there_and_is_read_when_it_is_sent(tmp_path: Path) -> None:
    here = Here()
    send(courier(tmp_path, {"key_command": ("pass", "x")}, printed=b"first"), here)
    assert lacking(courier(tmp_path, {"key_command": ("fail",)}), here) == []
    send(courier(tmp_path, {"key_command": ("pass", "x")}, printed=b"second"), here)
    assert (tmp_path / "token").read_bytes() == b"second"


@pytest.mark.parametrize(
    ("key", "said"),
    [
        ({"key_file": "/does/not/exist"}, r"web\.deployment\.keys\.token\.keyFile: /does/not/exist: No such file"),
        ({"key_command": ("fail",)}, r"web\.deployment\.keys\.token\.keyCommand: it ended with exit status 3: no such"),
        ({"text": ""}, "it has 0 bytes"),
    ],
)
def test_a_key_that_cannot_be_read_stops_before_any_is_sent(tmp_path: Path, key: dict[str, Any], said: str) -> None:
    here = Here()
    with pytest.raises(ConfigError, match=said):
        send(courier(tmp_path, {"text": "fine", "name": "first"}, key), here)
    assert here.scripts == [] and os.listdir(tmp_path) == []


def test_what_should_be_in_memory_is_refused_on_a_disk(tmp_path: Path) -> None:
    from nixops_proxmox.couriers import SCRIPT

    on_disk = SCRIPT.replace("{memory}", str(tmp_path))
    text = on_disk.format(dir=tmp_path, path=tmp_path / "x", name="x", mode="0600", size=1, **ME)
    kind = subprocess.run(
        ["stat", "-f", "-c", "%T", tmp_path], capture_output=True, text=True, check=True
    ).stdout.strip()
    done = Here().run(text, stdin=b"x")
    assert (done.status, "is not in memory" in done.stderr) == ((0, False) if kind in ("tmpfs", "ramfs") else (3, True))


def test_files_for_the_disk_are_read_here_with_their_mode_and_owner(tmp_path: Path) -> None:
    (tmp_path / "key").write_bytes(b"\0binary")
    said = [
        {"name": "/etc/motd", "text": "hello"},
        {"name": "/var/key", "file": str(tmp_path / "key"), "uid": 7, "gid": 8, "permissions": "0440"},
        {"name": "/var/made", "command": ("make",)},
    ]
    one = KeyCourier((), lambda _argv: b"printed", [PlacedFile.model_validate(entry) for entry in said])
    assert [(file.path, file.content, file.mode, file.uid, file.gid) for file in one.placed(WEB)] == [
        ("/etc/motd", b"hello", 0o600, 0, 0),
        ("/var/key", b"\0binary", 0o440, 7, 8),
        ("/var/made", b"printed", 0o600, 0, 0),
    ]
    assert "hello" not in repr(one.placed(WEB))


def test_a_file_that_cannot_be_read_is_told_by_its_option() -> None:
    one = KeyCourier((), files=[PlacedFile.model_validate({"name": "/a", "file": "/nowhere/x"})])
    with pytest.raises(ConfigError, match=r'web\.deployment\.files\."/a"\.file: /nowhere/x: No such file'):
        one.placed(WEB)
