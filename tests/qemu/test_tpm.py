"""A key that is sealed with a TPM, without a VM: swtpm and the lab's own packages of clevis and tpm2-tools are real."""

import hashlib
import os
import shutil
import socket
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from nixops_proxmox.kinds.machine.sealing import pin_of, sealing_for_boot
from nixops_proxmox.lab.image import default_cache
from nixops_proxmox.spec import Encryption
from tests.pace import patience, wait_until

pytestmark = [pytest.mark.qemu, pytest.mark.timeout(120)]

PACKAGES = ("clevis_", "clevis-tpm2", "tpm2-tools", "jose_", "libjose0", "libjansson4", "libtss2", "libefivar1")
LOCK = f"15:sha256={hashlib.sha256(b'nixops-proxmox: the root disk is open').hexdigest()}"


@dataclass(frozen=True)
class Tpm:
    environment: Mapping[str, str]

    def run(self, *argv: str, given: bytes = b"") -> "subprocess.CompletedProcess[bytes]":
        return subprocess.run(
            argv, input=given, env=self.environment, capture_output=True, check=False, timeout=patience(60)
        )

    def seals(self, pin: str, config: str, key: bytes) -> bytes:
        done = self.run("clevis", "encrypt", pin, config, given=key)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def unseals(self, sealed: bytes) -> bytes | None:
        done = self.run("clevis", "decrypt", given=sealed)
        return done.stdout if done.returncode == 0 else None


def free_port() -> int:
    """With another free one behind it, where the tools look for swtpm's control channel."""
    while True:
        with socket.socket() as one, socket.socket() as other:
            one.bind(("127.0.0.1", 0))
            port: int = one.getsockname()[1]
            if other.connect_ex(("127.0.0.1", port + 1)) != 0:
                return port


@pytest.fixture
def tools(tmp_path: Path) -> Path:
    if shutil.which("swtpm") is None:
        pytest.skip("swtpm is not installed")
    root = tmp_path / "root"
    debs = default_cache() / "apt" / "debs"
    for package in PACKAGES:
        found = sorted(debs.glob(f"{package}*.deb"))
        if not found:
            pytest.skip(f"the lab's image was not built here: no package {package}")
        for file in found:
            subprocess.run(["dpkg-deb", "-x", file, root], check=True)
    return root


def environment_of(tools: Path, port: int) -> Mapping[str, str]:
    return {
        "PATH": f"{tools}/usr/bin:{os.environ['PATH']}",
        "LD_LIBRARY_PATH": f"{tools}/usr/lib/x86_64-linux-gnu",
        "TPM2TOOLS_TCTI": f"swtpm:host=127.0.0.1,port={port}",
    }


@contextmanager
def running(state: Path, port: int) -> Iterator[None]:
    """Registers are zero at each start, and what the TPM is stays in its state."""
    argv = ["swtpm", "socket", "--tpm2", "--tpmstate", f"dir={state}", "--server", f"type=tcp,port={port}"]
    argv += ["--ctrl", f"type=tcp,port={port + 1}", "--flags", "not-need-init,startup-clear"]
    with subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        wait_until(lambda: is_listening(port + 1), 20, "swtpm")
        try:
            yield
        finally:
            process.kill()


@pytest.fixture
def tpm(tmp_path: Path, tools: Path) -> Iterator[Tpm]:
    state, port = tmp_path / "state", free_port()
    state.mkdir()
    with running(state, port):
        yield Tpm(environment_of(tools, port))


def is_listening(port: int) -> bool:
    with socket.socket() as one:
        return one.connect_ex(("127.0.0.1", port)) == 0


def by_tpm() -> Encryption:
    return Encryption.model_validate({"unlock": {"tpm2": {"pcrs": (7, 15)}}, "recovery": {"sink": {"none": True}}})


def test_a_tpm_gives_the_key_until_the_disk_is_open_and_to_nobody_afterwards(tpm: Tpm) -> None:
    sealed = tpm.seals(*pin_of(by_tpm()), b"secret")
    assert tpm.unseals(sealed) == b"secret"
    assert tpm.run("tpm2_pcrextend", LOCK).returncode == 0
    assert tpm.unseals(sealed) is None


def test_what_is_measured_of_secure_boot_must_be_as_it_was(tpm: Tpm) -> None:
    sealed = tpm.seals(*pin_of(by_tpm()), b"secret")
    assert tpm.run("tpm2_pcrextend", f"7:sha256={'1' * 64}").returncode == 0
    assert tpm.unseals(sealed) is None


def test_a_key_that_a_running_system_seals_is_given_by_its_next_boot_alone(tmp_path: Path, tools: Path) -> None:
    """The shell's own lines, with a register of Secure Boot that is not zero."""
    port, state = free_port(), tmp_path / "state"
    state.mkdir()
    tpm = Tpm(environment_of(tools, port))
    lines = sealing_for_boot(by_tpm(), str(tmp_path / "key"), str(tmp_path / "sealed"))
    (tmp_path / "key").write_bytes(b"secret")

    def boot() -> None:
        assert tpm.run("tpm2_pcrextend", f"7:sha256={'ab' * 32}").returncode == 0

    with running(state, port):
        boot()
        assert tpm.run("tpm2_pcrextend", LOCK).returncode == 0
        registers = tmp_path / "registers" / "pcr-sha256"
        registers.mkdir(parents=True)
        for number in (7, 15):
            assert tpm.run("tpm2_pcrread", f"sha256:{number}", "-o", str(tmp_path / "value")).returncode == 0
            (registers / str(number)).write_text((tmp_path / "value").read_bytes().hex().upper())
        script = "\n".join(["set -eu", *lines]).replace("/sys/class/tpm/tpm0", str(tmp_path / "registers"))
        done = tpm.run("sh", "-c", script)
        assert done.returncode == 0, done.stderr
        sealed = (tmp_path / "sealed").read_bytes()
        assert tpm.unseals(sealed) is None, "the system that seals it cannot unseal it"
    with running(state, port):
        boot()
        assert tpm.unseals(sealed) == b"secret"
        assert tpm.run("tpm2_pcrextend", LOCK).returncode == 0
        assert tpm.unseals(sealed) is None


def test_firmware_and_boot_loaders_may_change(tpm: Tpm) -> None:
    sealed = tpm.seals(*pin_of(by_tpm()), b"secret")
    others = [f"{number}:sha256={'1' * 64}" for number in (0, 2, 4, 8, 11)]
    assert tpm.run("tpm2_pcrextend", *others).returncode == 0
    assert tpm.unseals(sealed) == b"secret"
