"""After a whole life, nothing of a token or of a private key is anywhere but where it belongs."""

import os
import shutil
import stat
import threading
import tomllib
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.nixes import store_folder

if TYPE_CHECKING:
    from tests.e2e.bed import Bed

pytestmark = [pytest.mark.netns, pytest.mark.nix, pytest.mark.slow]

ROTATE = ["identity", "rotate", "web", "-vv"]
OPENSSH = "b3BlbnNzaC1rZXktdjEA"  # what every private key in OpenSSH's format begins with, in base64


@dataclass
class Sampler:
    """Every command line of every process of the machine, as often as can be, while it runs."""

    seen: set[bytes] = field(default_factory=set)
    _stop: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> "Sampler":
        self._thread = threading.Thread(target=self._sample, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _sample(self) -> None:
        while not self._stop.wait(0.01):
            for one in os.listdir("/proc"):
                if one.isdecimal():
                    try:
                        self.seen.add(Path(f"/proc/{one}/cmdline").read_bytes())
                    except OSError:  # it has ended
                        continue


@dataclass(frozen=True)
class Life:
    bed: "Bed"
    argv: frozenset[bytes]
    logs: str
    new_in_store: tuple[Path, ...]
    secrets: dict[str, str]
    scratch: Path  # where temporary files were to be put


@pytest.fixture(scope="module")
def life(lab_bed: "Bed", tmp_path_factory: pytest.TempPathFactory) -> Life:
    bed = lab_bed
    if shutil.which("nix-instantiate") is None:
        pytest.skip("there is no Nix here")
    bed.reset()
    state = bed.home / "state" / "nixops-proxmox"
    for left in state.glob("state.sqlite*"):
        left.unlink()
    shutil.rmtree(state / "deployments", ignore_errors=True)
    before = stored()
    version = f"secret-{uuid.uuid4().hex}"  # a system that nobody has built before
    scratch = tmp_path_factory.mktemp("scratch")
    extra: dict[str, Any] = {"VERSION": version, "TMPDIR": str(scratch), "XDG_RUNTIME_DIR": str(scratch)}
    logs = []
    with Sampler() as sampler:
        for words in (["deploy", "-vv"], ["ssh", "-vv", "web", "--", "true"], ["reinstall", "--yes", "-vv"], ROTATE):
            done = bed.run(*words, **extra)
            logs += [done.stdout, done.stderr]
        for words in (["status", "--json"], ["status", "--endpoints"], ["history"], ["check", "-vv"], ["plan", "-vv"]):
            done = bed.run(*words, check=False, **extra)
            logs += [done.stdout, done.stderr]
    new = tuple(sorted(stored() - before))
    return Life(bed, frozenset(sampler.seen), "\n".join(logs), new, secrets_of(bed), scratch)


def stored() -> set[Path]:
    return set(store_folder().glob("*"))


def secrets_of(bed: "Bed") -> dict[str, str]:
    """What must not show: by what it is. Of keys, a line of their inside."""
    (profiles,) = (bed.home / "config").rglob("*.toml")
    token = tomllib.loads(profiles.read_text())["lab"]["token"]
    found = {"token": token.partition("=")[2]}
    for path in private_keys(bed):
        found[path.name] = path.read_text().splitlines()[2]
    return found


def private_keys(bed: "Bed") -> list[Path]:
    deployments = bed.home / "state" / "nixops-proxmox" / "deployments"
    return [path for path in deployments.rglob("*") if path.is_file() and "PRIVATE KEY" in path.read_text()]


def leaks(life: Life, text: bytes) -> list[str]:
    found = [name for name, secret in life.secrets.items() if secret.encode() in text]
    return found + (["a private key"] if OPENSSH.encode() in text else [])


def test_there_are_secrets_to_look_for(life: Life) -> None:
    """The deployment's client key, the machine's host key, the token."""
    assert len(life.secrets) >= 3
    assert all(len(secret) > 20 for secret in life.secrets.values())


def test_private_keys_are_for_their_owner_alone(life: Life) -> None:
    for path in private_keys(life.bed):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700, path.parent


def test_no_secret_is_in_the_state(life: Life) -> None:
    files = list((life.bed.home / "state" / "nixops-proxmox").glob("state.sqlite*"))
    assert files
    for path in files:
        assert leaks(life, path.read_bytes()) == [], path


def test_no_secret_is_said_however_much_is_told(life: Life) -> None:
    assert "Install the system" in life.logs
    assert leaks(life, life.logs.encode()) == []


def test_no_secret_is_an_argument_of_any_process(life: Life) -> None:
    ours = [argv for argv in life.argv if b"nixops_proxmox" in argv]
    assert ours, "the sampler has seen nothing of us"
    assert any(b"ssh" in argv for argv in life.argv)
    for argv in life.argv:
        assert leaks(life, argv) == [], argv[:300]


def test_no_secret_is_in_the_nix_store(life: Life) -> None:
    assert life.new_in_store, "the deploy must have built something"
    for path in life.new_in_store:
        for one in [path, *path.rglob("*")] if path.is_dir() else [path]:
            if one.is_file() and not one.is_symlink():
                assert leaks(life, one.read_bytes()) == [], one


def test_no_secret_is_told_to_the_cluster(life: Life) -> None:
    """Neither in a VM's notes, nor in a task's name; the lab shows its whole state."""
    import json

    assert leaks(life, json.dumps(life.bed.control("GET", "state")).encode()) == []


def test_no_secret_is_in_a_guests_store(life: Life) -> None:
    """The host key is on its disk, where it belongs, and not in what Nix keeps there for all to read."""
    lab = life.bed.home / "state" / "nixops-proxmox" / "labs"
    looked = 0
    for path in lab.rglob("nix/store/*"):
        for one in path.rglob("*") if path.is_dir() else [path]:
            if one.is_file() and not one.is_symlink():
                looked += 1
                assert leaks(life, one.read_bytes()) == [], one
    assert looked


def test_the_install_key_is_gone_with_the_run(life: Life) -> None:
    """It lived in memory and in a file of its own."""
    files = [path for path in life.scratch.rglob("*") if path.is_file()]
    assert [path for path in files if OPENSSH in path.read_text(errors="replace")] == []
    assert any(str(life.scratch).encode() in argv and b"id_ed25519" in argv for argv in life.argv), "it was used"
