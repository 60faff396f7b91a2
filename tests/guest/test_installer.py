"""The script that enters the installer, run here against a root of the test's own."""

import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nixops_proxmox.errors import CommandFailed
from nixops_proxmox.guest.installer import HEADER, Entered, enter_script, parse_entered
from nixops_proxmox.model import Completed

OURS = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHIWXgLWgfIN/gKlF9rJMirx23k5yYL1SJwNxsCIDJ0S it's ours"
HOST = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIE23C1+K4Nsm9kgqDKJFQ1H3yZfa3Q1eE8Z0kXo3uWzW"
BOOT = "0f0c1a2b-1111-4222-8333-944445555666"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "etc/ssh").mkdir(parents=True)
    (tmp_path / "root").mkdir()
    (tmp_path / "etc/passwd").write_text(f"root:x:0:0:root:{tmp_path}/root:/bin/sh\n")
    (tmp_path / "etc/os-release").write_text("ID=nixos\n")
    (tmp_path / "etc/ssh/ssh_host_ed25519_key.pub").write_text(HOST + " root@installer\n")
    return tmp_path


def enter(root: Path, *keys: str) -> Entered:
    script = enter_script(keys or (OURS,)).replace("/etc/", f"{root}/etc/")
    done = subprocess.run(["/bin/sh", "-c", script], capture_output=True, text=True, check=True)
    return parse_entered(Completed(0, done.stdout))


def authorized(root: Path) -> Path:
    return root / "root/.ssh/authorized_keys"


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("etc/nixops-proxmox-installer", ""),
        ("etc/os-release", "ID=nixos\nVARIANT_ID=installer\n"),
        ("etc/os-release", 'ID=nixos\nVARIANT_ID="installer"\n'),
    ],
)
def test_in_the_installer_our_key_is_let_in_privately(root: Path, file: str, text: str) -> None:
    (root / file).write_text(text)
    entered = enter(root)
    assert entered.is_installer
    assert entered.host_keys == (HOST,)
    assert len(entered.boot_id) == 36
    assert authorized(root).read_text() == OURS + "\n"
    assert authorized(root).stat().st_mode & 0o777 == 0o600
    assert authorized(root).parent.stat().st_mode & 0o777 == 0o700


def test_entering_again_adds_nothing_and_others_keys_stay(root: Path) -> None:
    (root / "etc/nixops-proxmox-installer").touch()
    authorized(root).parent.mkdir()
    authorized(root).write_text("ssh-rsa AAAA no newline at the end")
    enter(root)
    enter(root, OURS, HOST)
    assert authorized(root).read_text() == f"ssh-rsa AAAA no newline at the end\n{OURS}\n{HOST}\n"


def test_in_an_installed_system_it_only_looks(root: Path) -> None:
    (root / "etc/os-release").write_text('ID=nixos\nPRETTY_NAME="The Installed One"\n')
    entered = enter(root)
    assert not entered.is_installer
    assert entered.system == "The Installed One"
    assert entered.host_keys == (HOST,)
    assert not authorized(root).parent.exists()


def test_every_host_key_of_a_known_type_is_read(root: Path) -> None:
    (root / "etc/nixops-proxmox-installer").touch()
    (root / "etc/ssh/ssh_host_rsa_key.pub").write_text("ssh-rsa " + "A" * 300 + "== root@x\n")
    (root / "etc/ssh/ssh_host_dsa_key.pub").write_text("ssh-dss " + "A" * 300 + "\n")
    assert [key.split()[0] for key in enter(root).host_keys] == ["ssh-ed25519", "ssh-rsa"]


@pytest.mark.parametrize("key", ["", "x", "ssh-ed25519 AAAA\nssh-rsa BBBB", "ssh-ed25519 $(reboot)"])
def test_only_public_keys_get_into_the_script(key: str) -> None:
    with pytest.raises(ValueError, match="not a public key"):
        enter_script([key])


def test_the_answer_is_read_with_noise_around_it() -> None:
    text = f"motd\n{HEADER}\nkind installer\nboot-id {BOOT}\nuuid ABC\nhost-key {HOST}\nhost-key evil; x\nend\nmore\n"
    assert parse_entered(Completed(0, text)) == Entered(True, BOOT, "abc", (HOST,))


@pytest.mark.parametrize("missing", ["kind installer\n", f"boot-id {BOOT}\n", "end\n", f"{HEADER}\n"])
def test_half_an_answer_is_none(missing: str) -> None:
    text = f"{HEADER}\nkind installer\nboot-id {BOOT}\nuuid \nhost-key {HOST}\nend\n"
    parse_entered(Completed(0, text))
    with pytest.raises(CommandFailed, match="could not be entered"):
        parse_entered(Completed(0, text.replace(missing, "")))


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=200))
def test_rubbish_is_our_own_error(text: str) -> None:
    for answer in (text, f"{HEADER}\nkind installer\n{text}\nend\n"):
        with pytest.raises(CommandFailed):
            parse_entered(Completed(0, answer))
