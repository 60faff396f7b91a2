"""The scripts that work on key slots, with a real cryptsetup on a file: it needs no device for that, and no root."""

import base64
import json
import os
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from nixops_proxmox.kinds.machine.encrypted_layout import layout
from nixops_proxmox.kinds.machine.encryption import KEYS, SEALED, Use, look_script, parse_header, volume_uuid
from nixops_proxmox.kinds.machine.first_stage import BOOTS
from nixops_proxmox.kinds.machine.header import parse_tried, try_script
from nixops_proxmox.kinds.machine.header_backup import backup_script, parse_backup
from nixops_proxmox.kinds.machine.rotation import (
    LOCKED,
    PROFILE,
    STALE,
    TAKEN,
    delivery,
    hand_on_script,
    settle_script,
    stage_script,
)
from nixops_proxmox.lab.image import default_cache
from nixops_proxmox.spec import MachineSpec
from tests.kinds.machine.test_data_disks import DATA
from tests.kinds.machine.test_encryption import FACTS, OTHER, REGISTERS, THUMBPRINT, VAULT, encrypted, tang
from tests.pace import patience

UUID = "afd4f314-d3f3-5180-8c27-6076e7cd8947"
LIBRARIES = "usr/lib/x86_64-linux-gnu:lib/x86_64-linux-gnu"
PACKAGES = ("cryptsetup-bin_*", "libcryptsetup12_*", "libargon2-1_*", "libpopt0_*", "libdevmapper1.02.1_*")
OLD = {1: "old-recovery", 2: "old-sealed", 3: "old-tool"}
NEW = {Use.RECOVERY: "new-recovery", Use.SEALED: "new-sealed", Use.TOOL: "new-tool"}
FAST = ["-q", "--pbkdf", "pbkdf2", "--pbkdf-force-iterations", "1000"]
# What the guest has beside cryptsetup: a device by its UUID, memory, a boot loader, and servers.
STAND_INS = {
    "blkid": 'echo "$DISK"',
    "mountpoint": "exit 1",
    "mount": "exit 0",
    "umount": "exit 0",
    "flock": "exit 0",
    "clevis": """[ ! -e "$HOME/down" ] || { cat > /dev/null; exit 1; }
case $1 in encrypt) echo "$2 $3" >> "$HOME/asked"; printf 'sealed:'; cat ;; decrypt) sed 's/^sealed://' ;; esac""",
    "switch-to-configuration": """cp "$HOME/sealed/root.jwe" "$HOME/first-stage"
mkdir -p "$HOME/boot/extlinux"
cd "$HOME/boot/extlinux"
printf 'DEFAULT a\\nLABEL a\\n  INITRD unlock\\n' > extlinux.conf
[ -e "$HOME/lazy" ] || { printf 070701; cat "$HOME/first-stage"; printf '%1000s' 'TRAILER!!!'; } > unlock
[ ! -e "$HOME/full" ]""",
}


@pytest.fixture(scope="module")
def cryptsetup(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment that has one: this computer's own, or of the packages that the lab's image is made of."""
    if shutil.which("cryptsetup"):
        return dict(os.environ)
    found = [path for one in PACKAGES for path in (default_cache() / "apt" / "debs").glob(f"{one}.deb")]
    if len(found) < len(PACKAGES):
        pytest.skip("there is no cryptsetup")
    folder = tmp_path_factory.mktemp("cryptsetup")
    for path in found:
        subprocess.run(["dpkg-deb", "-x", path, folder], check=True)
    libraries = ":".join(str(folder / one) for one in LIBRARIES.split(":"))
    return {**os.environ, "PATH": f"{folder / 'sbin'}:{os.environ['PATH']}", "LD_LIBRARY_PATH": libraries}


@dataclass(frozen=True)
class Computer:
    folder: Path
    environment: dict[str, str]

    @property
    def disk(self) -> Path:
        return self.folder / "disk"

    def run(self, script: str, stdin: bytes = b"") -> subprocess.CompletedProcess[str]:
        places = {KEYS: "keys", SEALED: "sealed", PROFILE: "system", "/run/nixops-proxmox-header": "header"}
        places |= {" ".join(BOOTS): "boot"}
        for place, here in places.items():
            script = script.replace(place, str(self.folder / here))
        done = subprocess.run(
            ["sh", "-c", script],
            input=stdin,
            env=self.environment,
            capture_output=True,
            timeout=patience(60),
            check=False,
        )
        return subprocess.CompletedProcess(script, done.returncode, done.stdout.decode(), done.stderr.decode())

    def cryptsetup(self, *words: str, given: str = "") -> None:
        argv = ["cryptsetup", *words]
        subprocess.run(argv, input=given.encode(), env=self.environment, check=True, capture_output=True)

    def add(self, slot: int, key: str) -> None:
        file = self.folder / "new"
        file.write_text(key)
        self.cryptsetup(
            "luksAddKey", *FAST, "--key-slot", str(slot), "--key-file", "-", str(self.disk), str(file), given=OLD[1]
        )

    def opens(self, key: str) -> int | None:
        return parse_tried(self.run(try_script(UUID), key.encode()).stdout)[1]

    @property
    def slots(self) -> tuple[int, ...]:
        return parse_header(self.run(look_script(UUID)).stdout).slots

    def bring(self, *opening: str, keys: dict[Use, str] = NEW, volume: str = "root") -> None:
        script, archive = delivery(keys, opening, volume)
        done = self.run(script, archive)
        assert done.returncode == 0, done.stderr

    def stage(self, spec: MachineSpec = VAULT, *, again: bool = False) -> subprocess.CompletedProcess[str]:
        assert spec.encryption is not None
        return self.run(stage_script(spec.encryption, UUID, again=again))

    def settle(
        self, spec: MachineSpec = VAULT, emptied: Sequence[int] = (17, 18, 19)
    ) -> subprocess.CompletedProcess[str]:
        assert spec.encryption is not None
        return self.run(settle_script(spec.encryption, UUID, emptied))


@pytest.fixture
def computer(cryptsetup: dict[str, str], tmp_path: Path) -> Computer:
    programs = tmp_path / "bin"
    for folder in (programs, tmp_path / "sealed", tmp_path / "system" / "bin"):
        folder.mkdir(parents=True)
    for name, script in STAND_INS.items():
        path = (tmp_path / "system" / "bin" if name.startswith("switch") else programs) / name
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
    (tmp_path / "sealed" / "root.jwe").write_text(f"sealed:{OLD[2]}")
    disk = tmp_path / "disk"
    with disk.open("wb") as file:
        file.truncate(32 << 20)
    own = {"PATH": f"{programs}:{cryptsetup['PATH']}", "DISK": str(disk), "HOME": str(tmp_path)}
    made = Computer(tmp_path, {**cryptsetup, **own})
    made.cryptsetup(
        "luksFormat",
        *FAST,
        "--type",
        "luks2",
        "--uuid",
        UUID,
        "--key-slot",
        "1",
        "--key-file",
        "-",
        str(disk),
        given=OLD[1],
    )
    for slot in (2, 3):
        made.add(slot, OLD[slot])
    return made


def test_a_rotation_changes_every_key_and_keeps_what_is_not_ours(computer: Computer) -> None:
    computer.add(0, "the user's")
    computer.bring(OLD[3])
    assert computer.stage().returncode == 0
    assert computer.slots == (0, 1, 2, 3, 17, 18, 19)
    assert [computer.opens(key) for key in (*OLD.values(), *NEW.values())] == [1, 2, 3, 17, 18, 19]
    done = computer.settle()
    assert parse_header(done.stdout).slots == (0, 1, 2, 3), done.stderr
    assert [computer.opens(key) for key in (*OLD.values(), *NEW.values())] == [None] * 3 + [1, 2, 3]
    assert computer.opens("the user's") == 0
    assert (computer.folder / "first-stage").read_text() == f"sealed:{NEW[Use.SEALED]}"
    assert list((computer.folder / "keys").iterdir()) == []


def test_each_script_may_run_twice_and_after_the_other(computer: Computer) -> None:
    for again in (False, True):
        computer.bring(OLD[1])
        assert computer.stage(again=again).returncode == 0
    for _ in range(2):
        assert computer.settle().returncode == 0
        computer.bring()  # the new keys open it by now
        assert computer.stage(again=True).returncode == 0
    assert computer.settle().returncode == 0
    assert computer.slots == (1, 2, 3)


@pytest.mark.parametrize("emptied", [1, 2, 3])
def test_a_slot_that_was_emptied_when_it_broke_is_filled_from_its_spare(computer: Computer, emptied: int) -> None:
    computer.bring(OLD[1])
    computer.stage()
    computer.cryptsetup("luksKillSlot", "-q", str(computer.disk), str(emptied))
    computer.bring()
    assert computer.stage(again=True).returncode == 0 and computer.settle().returncode == 0
    assert [computer.opens(key) for key in NEW.values()] == [1, 2, 3]


@pytest.mark.parametrize(
    ("opening", "sealed", "status"), [(("wrong",), True, 0), (("wrong",), False, LOCKED), ((), True, 0)]
)
def test_without_a_key_of_ours_the_guest_unseals_one(
    computer: Computer, opening: Sequence[str], sealed: bool, status: int
) -> None:
    if not sealed:
        (computer.folder / "down").touch()
    computer.bring(*opening)
    assert computer.stage(encrypted({"tool": True}, {"folder": "/vault"})).returncode == status
    assert computer.slots == ((1, 2, 3, 17, 19) if status == 0 else (1, 2, 3))


def test_nothing_is_taken_away_where_a_server_or_the_boot_loader_fails(computer: Computer) -> None:
    (computer.folder / "down").touch()
    computer.bring(OLD[1])
    failed = computer.stage()
    assert failed.returncode != 0 and "the tang server http://192.0.2.5 does not seal" in failed.stderr
    (computer.folder / "down").unlink()
    assert computer.stage(again=True).returncode == 0
    (computer.folder / "full").touch()
    assert computer.settle().returncode != 0
    assert [computer.opens(key) for key in OLD.values()] == [1, 2, 3]


def test_with_a_tpm_the_new_sealed_key_is_handed_on_beside_the_old_ones_and_settled_later(computer: Computer) -> None:
    """What the TPM does of it is in tests/qemu/test_tpm.py."""
    spec = encrypted(REGISTERS, {"folder": "/vault"})
    assert spec.encryption is not None
    keys = {Use.RECOVERY: NEW[Use.RECOVERY], Use.SEALED: NEW[Use.SEALED]}
    registers = computer.folder / "tpm0" / "pcr-sha256"
    registers.mkdir(parents=True)
    for number in (7, 15):
        (registers / str(number)).write_text("AB" * 32)

    def run(script: str) -> subprocess.CompletedProcess[str]:
        return computer.run(script.replace("/sys/class/tpm/tpm0", str(registers.parent)))

    computer.bring(OLD[1], keys=keys)
    assert run(stage_script(spec.encryption, UUID, again=False)).returncode == 0
    asked = (computer.folder / "asked").read_text().splitlines()[-1]
    wanted = base64.urlsafe_b64encode(b"\xab" * 32 + b"\0" * 32).decode().rstrip("=")
    assert json.loads(asked.partition(" ")[2])["pcr_digest"] == wanted
    done = run(hand_on_script(UUID))
    assert done.returncode == 0, done.stderr
    assert (computer.folder / "first-stage").read_text() == f"sealed:{NEW[Use.SEALED]}"
    assert computer.slots == (1, 2, 3, 17, 18) and list((computer.folder / "keys").iterdir()) == []
    for _ in range(2):
        computer.bring(keys=keys)
        settled = run(settle_script(spec.encryption, UUID, (3, 17, 18), handed_on=True))
        assert parse_header(settled.stdout).slots == (1, 2), settled.stderr
    assert [computer.opens(key) for key in (OLD[1], OLD[2], *keys.values())] == [None, None, 1, 2]


def test_nothing_is_taken_away_where_the_boot_loader_does_not_take_the_new_key_along(computer: Computer) -> None:
    boot = computer.folder / "boot" / "extlinux"
    boot.mkdir(parents=True)
    (boot / "unlock").write_text(f"070701 sealed:{OLD[2]}{'TRAILER!!!':>1000}")
    (computer.folder / "lazy").touch()
    computer.bring(OLD[1])
    assert computer.stage().returncode == 0
    done = computer.settle()
    assert (done.returncode, done.stderr.strip()) == (STALE, str(boot / "unlock"))
    assert [computer.opens(key) for key in OLD.values()] == [1, 2, 3]
    (computer.folder / "lazy").unlink()
    assert computer.settle().returncode == 0
    assert [computer.opens(key) for key in (*OLD.values(), *NEW.values())] == [None] * 3 + [1, 2, 3]


def test_a_slot_of_somebody_else_is_left_to_them(computer: Computer) -> None:
    computer.add(18, "theirs")
    computer.bring(OLD[1])
    refused = computer.stage()
    assert (refused.returncode, refused.stderr.strip()) == (TAKEN, "18")
    assert computer.opens("theirs") == 18 and 17 not in computer.slots


def test_every_server_is_asked_for_itself_and_then_all_of_them(computer: Computer) -> None:
    two = encrypted(tang(THUMBPRINT, OTHER), {"none": True}, threshold=2)
    computer.bring(OLD[1], keys={Use.SEALED: NEW[Use.SEALED]})
    assert computer.stage(two).returncode == 0 and computer.settle(two, (1, 3, 18)).returncode == 0
    asked = (computer.folder / "asked").read_text().splitlines()
    assert [(line.partition(" ")[0], line.count("thp")) for line in asked] == [("tang", 1), ("tang", 1), ("sss", 2)]
    assert computer.slots == (2,)


def test_a_data_disk_gets_new_keys_by_what_its_system_opens_it_with(computer: Computer) -> None:
    """Its slots are those of the fixture without the tool's, and the file on the root is the system's key."""
    computer.cryptsetup("luksKillSlot", "-q", str(computer.disk), "3")
    file = computer.folder / "sealed" / "scsi1.key"
    file.write_text(OLD[2])
    keys = {Use.RECOVERY: "new-recovery", Use.SYSTEM: "new-system"}
    assert VAULT.encryption is not None
    for again in (False, True):
        computer.bring(keys=keys, volume="scsi1")
        staged = computer.run(stage_script(VAULT.encryption, UUID, "scsi1", again=again))
        assert staged.returncode == 0, staged.stderr
    assert computer.slots == (1, 2, 17, 18)
    done = computer.run(settle_script(VAULT.encryption, UUID, (17, 18), "scsi1"))
    assert parse_header(done.stdout).slots == (1, 2), done.stderr
    assert [computer.opens(key) for key in ("new-recovery", "new-system", OLD[1], OLD[2])] == [1, 2, None, None]
    assert file.read_text() == "new-system" and not (computer.folder / "first-stage").exists()
    file.write_text("lost")
    computer.bring(volume="scsi1", keys={use: f"{key} again" for use, key in keys.items()})
    assert computer.run(stage_script(VAULT.encryption, UUID, "scsi1", again=False)).returncode == LOCKED


def test_the_installers_own_lines_make_a_data_disk_that_each_of_its_keys_opens(computer: Computer) -> None:
    """All of them but the check that the disk is empty, which asks for a device."""
    folder = computer.folder / "keys"
    folder.mkdir()
    for slot, key in ((1, "its-recovery"), (2, "its-system")):
        (folder / f"scsi1.{slot}").write_text(key)
    script = layout(DATA, FACTS)
    lines = [line for line in script.splitlines() if '"$DISK_scsi1"' in line and not line.startswith("empty")]
    done = computer.run("\n".join(["set -eu", f"DISK_scsi1={computer.disk}", *lines]))
    assert done.returncode == 0, done.stderr
    tried = computer.run(try_script(UUID), b"its-system")
    header, opened = parse_tried(tried.stdout)
    assert (header.uuid, header.slots, opened) == (volume_uuid(FACTS, "scsi1"), (1, 2), 2)


def test_a_header_that_was_backed_up_arrives_whole_and_brings_the_keys_of_its_time_back(computer: Computer) -> None:
    done = computer.run(backup_script(UUID))
    header = parse_backup(done.stdout, UUID)
    assert len(header) == 16 << 20 and not list(computer.folder.glob("header*"))
    for told, why in ((done.stdout[:-7], "whole"), ("", "not the header"), (done.stdout, "not the header")):
        with pytest.raises(ValueError, match=why):
            parse_backup(told, OTHER if told == done.stdout else UUID)
    computer.cryptsetup("luksKillSlot", "-q", str(computer.disk), "3")
    assert computer.opens(OLD[3]) is None
    (computer.folder / "backup").write_bytes(header)
    restored = ["--header-backup-file", str(computer.folder / "backup")]
    computer.cryptsetup("luksHeaderRestore", "-q", str(computer.disk), *restored)
    assert computer.opens(OLD[3]) == 3, "as the page of it says"


def test_a_key_that_opens_nothing_is_told_and_the_header_all_the_same(computer: Computer) -> None:
    done = computer.run(try_script(UUID), b"wrong")
    header, slot = parse_tried(done.stdout)
    assert (header.uuid, header.slots, slot) == (UUID, (1, 2, 3), None)
    assert done.returncode == 0
