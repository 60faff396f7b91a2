"""Recovery keys get to where the user wants them, or the deploy hears of it."""

import stat
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from nixops_proxmox.errors import ConfigError
from nixops_proxmox.escrow import RecoveryKeys, run_fed
from nixops_proxmox.model import Completed, Machine
from nixops_proxmox.spec import Sink
from nixops_proxmox.ssh.keys import new_disk_key

MACHINE = Machine("demo", "web")
VOLUME = "afd4f314-d3f3-5180-8c27-6076e7cd8947"
RECIPIENT = "age1" + "q" * 58


def hand_over(escrow: RecoveryKeys, key: str = "the-key", **sink: Any) -> str:
    return escrow.hand_over(Sink.model_validate(sink), MACHINE, "root", VOLUME, key)


def test_a_folder_gets_a_file_for_its_owner_alone_named_by_what_the_disk_says(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "keys"
    for key in ("old", "new"):
        path = Path(hand_over(RecoveryKeys(), key, folder=str(folder)))
        assert path == folder / f"web-root-{VOLUME}.key"
        assert path.read_text() == f"{key}\n"
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700 and len(list(folder.iterdir())) == 1


def test_a_folder_that_is_there_keeps_its_mode(tmp_path: Path) -> None:
    tmp_path.chmod(0o750)
    hand_over(RecoveryKeys(), folder=str(tmp_path))
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o750


def test_a_command_gets_the_key_on_its_standard_input_and_is_told_whose_it_is(tmp_path: Path) -> None:
    told = tmp_path / "told"
    script = f'read -r key; echo "$DEPLOYMENT $MACHINE $VOLUME $LUKS_UUID $key" > {told}'
    assert hand_over(RecoveryKeys(environment={"PATH": "/bin:/usr/bin"}), command=script) == "command"
    assert told.read_text() == f"demo web root {VOLUME} the-key\n"


@pytest.mark.parametrize(
    ("sink", "said"),
    [
        ({"command": "echo no room >&2; exit 3"}, "sink.command.*exit status 3: no room"),
        ({"command": "kill -9 $$"}, "sink.command.*exit status -9"),
        ({"folder": "/proc/none"}, "sink.folder.*/proc/none/web-root"),
        ({"folder": "/tmp", "age": (RECIPIENT,)}, "sink.age.*age cannot be started"),
    ],
)
def test_a_sink_that_fails_is_named_with_its_option(sink: dict[str, object], said: str) -> None:
    escrow = RecoveryKeys(run=without_age)
    with pytest.raises(ConfigError, match=f"web: encryption.recovery.{said}") as refused:
        hand_over(escrow, "the-key", **sink)
    assert "no key of the disk was taken away" in refused.value.hint and "the-key" not in str(refused.value)


def without_age(argv: Sequence[str], given: bytes, environment: Mapping[str, str]) -> Completed:
    if argv[0] == "age":
        raise FileNotFoundError(2, "No such file or directory")
    return run_fed(argv, given, environment)


def test_with_recipients_only_ciphertext_leaves_us(tmp_path: Path) -> None:
    seen: list[Sequence[str]] = []

    def age(argv: Sequence[str], given: bytes, environment: Mapping[str, str]) -> Completed:
        seen.append(argv)
        assert given == b"the-key\n"
        return Completed(0, "-----BEGIN AGE ENCRYPTED FILE-----\nxyz\n")

    path = Path(hand_over(RecoveryKeys(run=age), folder=str(tmp_path), age=(RECIPIENT, "ssh-ed25519 AAAA me")))
    assert path.name.endswith(".key.age") and "the-key" not in path.read_text()
    assert seen == [["age", "--encrypt", "--armor", "--recipient", RECIPIENT, "--recipient", "ssh-ed25519 AAAA me"]]


def test_a_header_goes_where_the_key_goes_and_is_told_from_it(tmp_path: Path) -> None:
    header, told = b"LUKS\xba\xbe\0\2", tmp_path / "told"
    place = RecoveryKeys().hand_over_header(Sink(folder=str(tmp_path)), MACHINE, "root", VOLUME, header)
    assert place == str(tmp_path / f"web-root-{VOLUME}.header")
    assert Path(place).read_bytes() == header and stat.S_IMODE(Path(place).stat().st_mode) == 0o600
    escrow, script = RecoveryKeys(environment={"PATH": "/bin:/usr/bin"}), f"cat > {told}.$KIND"
    escrow.hand_over_header(Sink(command=script), MACHINE, "root", VOLUME, header)
    hand_over(escrow, command=script)
    assert Path(f"{told}.header").read_bytes() == header and Path(f"{told}.key").read_text() == "the-key\n"


def test_a_key_is_read_back_from_a_folder_and_from_nowhere_else(tmp_path: Path) -> None:
    place = hand_over(RecoveryKeys(), folder=str(tmp_path))
    assert RecoveryKeys().find_key(place) == "the-key"
    for other in (f"{place}.age", str(tmp_path / "none.key"), "command", ""):
        assert RecoveryKeys().find_key(other) is None


def test_what_is_no_ciphertext_is_not_kept(tmp_path: Path) -> None:
    def age(argv: Sequence[str], given: bytes, environment: Mapping[str, str]) -> Completed:
        return Completed(0, given.decode())

    with pytest.raises(ConfigError, match="no encrypted text"):
        hand_over(RecoveryKeys(run=age), folder=str(tmp_path), age=(RECIPIENT,))
    assert not list(tmp_path.iterdir())


def test_a_disk_key_has_256_bits_in_letters_of_every_keyboard() -> None:
    keys = {new_disk_key() for _ in range(50)}
    assert len(keys) == 50
    for key in keys:
        words = key.split("-")
        assert [len(word) for word in words] == [8] * 8
        assert set(key) <= set("cbdefghijklnrtuv-")
