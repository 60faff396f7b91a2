"""Key pairs and their files: private, whole, and agreed on by everybody."""

import re
import subprocess
from pathlib import Path
from threading import Thread

import pytest

from nixops_proxmox.errors import ConfigError
from nixops_proxmox.secrecy import BLANK, redact
from nixops_proxmox.spec import MachineSpec, Ssh
from nixops_proxmox.ssh.keys import KeyPair, KeyStore, load_key_pair, new_key_pair, start_identity_file


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def test_openssh_reads_our_keys(tmp_path: Path) -> None:
    pair = new_key_pair("me@here")
    with start_identity_file(pair) as file:
        done = subprocess.run(["ssh-keygen", "-y", "-f", file], capture_output=True, text=True, check=True)
        assert done.stdout.split()[:2] == pair.public.split()[:2]
        assert (mode(file), mode(file.parent)) == (0o600, 0o700)
    assert not file.exists() and not file.parent.exists()


def test_the_identity_file_is_gone_after_an_error_too() -> None:
    with pytest.raises(ZeroDivisionError), start_identity_file(new_key_pair()) as file:
        raise ZeroDivisionError
    assert not file.exists()


def test_a_pair_survives_its_text_and_never_shows_its_private_half() -> None:
    pair = new_key_pair("c")
    assert load_key_pair(pair.private, "c") == pair
    assert "PRIVATE" not in repr(pair)


def test_what_is_no_key_is_refused() -> None:
    for text in ("", "x", new_key_pair().private[:100]):
        with pytest.raises(ConfigError):
            load_key_pair(text)


def test_a_machines_host_key_is_minted_once(tmp_path: Path) -> None:
    first, second = KeyStore(tmp_path / "keys", "demo"), KeyStore(tmp_path / "keys", "demo")
    assert first.host_key("0F-1") == second.host_key("0f-1")
    assert first.host_key("0F-1") != first.host_key("0F-2")
    assert first.host_key("0F-1")[1].startswith("ssh-ed25519 ")
    files = [path for path in (tmp_path / "keys").rglob("*") if path.is_file()]
    assert len(files) == 2 and {mode(path) for path in files} == {0o600}
    assert {mode(path) for path in (tmp_path / "keys", tmp_path / "keys" / "host")} == {0o700}


def test_a_forgotten_host_key_is_minted_anew(tmp_path: Path) -> None:
    store = KeyStore(tmp_path, "demo")
    before = store.host_key("a-1")
    store.forget("a-1")
    store.forget("a-1")
    assert store.host_key("a-1") != before


def test_a_key_read_from_the_guest_replaces_ours(tmp_path: Path) -> None:
    store, theirs = KeyStore(tmp_path, "demo"), new_key_pair()
    assert not store.has_host_key("a-1")
    store.keep_host_key("a-1", theirs.private)
    assert store.has_host_key("a-1")
    assert store.host_key("a-1") == (theirs.private, theirs.public)
    with pytest.raises(ConfigError):
        store.keep_host_key("a-1", "rubbish")
    assert store.host_key("a-1") == (theirs.private, theirs.public)


def test_threads_that_mint_at_once_agree_on_one_key(tmp_path: Path) -> None:
    found: list[KeyPair] = []
    threads = [Thread(target=lambda: found.append(KeyStore(tmp_path / "k", "demo").client_key())) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 16 and len(set(found)) == 1
    assert [path.name for path in (tmp_path / "k" / "client").iterdir()] == ["id_ed25519"]


def test_a_uuid_cannot_leave_the_folder(tmp_path: Path) -> None:
    for bad in ("../x", "", "a/b", ".hidden"):
        with pytest.raises(ConfigError):
            KeyStore(tmp_path, "demo").host_key(bad)


def test_a_broken_key_file_is_named_and_not_replaced(tmp_path: Path) -> None:
    store = KeyStore(tmp_path, "demo")
    store.client_key()
    store.client_key_file.write_text("broken")
    with pytest.raises(ConfigError, match="id_ed25519"):
        store.client_key()
    assert store.client_key_file.read_text() == "broken"


def test_an_open_folder_is_closed(tmp_path: Path) -> None:
    folder = tmp_path / "keys"
    folder.mkdir(mode=0o755)
    KeyStore(folder, "demo").client_key()
    assert mode(folder) == 0o700


def test_authorized_keys_are_ours_and_the_descriptions_each_once(tmp_path: Path) -> None:
    store = KeyStore(tmp_path, "my net/1")
    theirs = new_key_pair("them").public
    spec = MachineSpec(name="web", ssh=Ssh(authorized_keys=(theirs, f" {theirs} ")))
    ours = store.client_key().public
    assert store.authorized_keys(spec) == (ours, theirs)
    assert ours.endswith(" nixops-proxmox-my-net-1")


def test_a_disks_keys_are_made_once_each_and_are_for_their_owner_alone(tmp_path: Path) -> None:
    store, again = KeyStore(tmp_path / "keys", "demo"), KeyStore(tmp_path / "keys", "demo")
    assert store.find_disk_key("a-1", "v-1", "tool") is None
    key = store.disk_key("a-1", "v-1", "tool")
    assert again.disk_key("A-1", "v-1", "tool") == again.find_disk_key("a-1", "v-1", "tool") == key
    assert len({key, store.disk_key("a-1", "v-1", "sealed"), store.disk_key("a-1", "v-2", "tool")}) == 3
    folder = tmp_path / "keys" / "disks" / "a-1"
    assert {mode(path) for path in folder.iterdir()} == {0o600}
    assert {mode(path) for path in (folder, folder.parent)} == {0o700}
    assert key not in redact(f"it said {key}")


def test_only_the_keys_that_are_still_needed_stay(tmp_path: Path) -> None:
    store = KeyStore(tmp_path / "keys", "demo")
    kept = store.disk_key("a-1", "v-2", "tool")
    for volume, use in (("v-1", "tool"), ("v-2", "recovery"), ("v-2", "sealed")):
        store.disk_key("a-1", volume, use)
    other = store.disk_key("a-2", "v-2", "recovery")
    store.forget_disk_keys("a-1", [("v-2", "tool")])
    assert [path.name for path in (tmp_path / "keys" / "disks" / "a-1").iterdir()] == ["v-2.tool"]
    assert store.disk_key("a-1", "v-2", "tool") == kept
    store.forget("a-1")
    assert not (tmp_path / "keys" / "disks" / "a-1").exists()
    assert store.disk_key("a-2", "v-2", "recovery") == other
    store.forget_disk_keys("a-3", [])


def test_a_first_stage_has_a_key_of_its_own_until_the_machine_is_forgotten(tmp_path: Path) -> None:
    store = KeyStore(tmp_path / "keys", "demo")
    private, public = store.first_stage_key("a-1")
    assert store.first_stage_key("a-1") == (private, public) != store.host_key("a-1")
    assert store.host_key("a-1")[0] != private != store.first_stage_key("a-2")[0]
    assert (tmp_path / "keys" / "first-stage" / "a-1").stat().st_mode & 0o777 == 0o600
    store.forget("a-1")
    assert store.first_stage_key("a-1") != (private, public)


def test_a_deployments_signing_key_stays_and_is_private(tmp_path: Path) -> None:
    store = KeyStore(tmp_path / "keys", "my shop")
    file, public = store.signing_key()
    assert KeyStore(tmp_path / "keys", "my shop").signing_key() == (file, public)
    assert mode(file) == 0o600 and re.fullmatch(r"nixops-proxmox-my-shop-1:[A-Za-z0-9+/]{43}=", public)
    assert redact(file.read_text()) == f"nixops-proxmox-my-shop-1:{BLANK}"
    file.write_text("shop-1:AAAA")
    with pytest.raises(ConfigError, match=r"signing-key: not a signing key of Nix's"):
        store.signing_key()
