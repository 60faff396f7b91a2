"""KVM, if it works here: a device node alone says nothing, so a kernel is booted to userspace first."""

import os
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

DEVICE = Path("/dev/kvm")
PVM = Path("/sys/module/kvm_pvm")
READY = "first stage: userspace"  # printed by the image's first stage for root=probe
PROBE_SECONDS = 10.0


@dataclass(frozen=True)
class Accel:
    """How guests' processors are run, and why so."""

    kvm: bool
    reason: str

    @property
    def name(self) -> str:
        return "kvm" if self.kvm else "tcg"


def probe_argv(kernel: Path, initrd: Path) -> list[str]:
    return [
        *("qemu-system-x86_64", "-nodefaults", "-no-user-config", "-no-reboot", "-display", "none", "-accel", "kvm"),
        *("-machine", "q35", "-cpu", "host", "-m", "256", "-serial", "stdio", "-kernel", str(kernel)),
        *("-initrd", str(initrd), "-append", "root=probe console=ttyS0 quiet loglevel=3"),
    ]


def run_probe(argv: Sequence[str]) -> str:
    """What the guest printed until it ended, or until the time was up."""
    try:
        done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, timeout=PROBE_SECONDS, check=False)
    except subprocess.TimeoutExpired as error:
        return (error.stdout or b"").decode(errors="replace")
    return done.stdout.decode(errors="replace")


def find_accel(
    kernel: Path,
    initrd: Path,
    *,
    device: Path = DEVICE,
    pvm: Path = PVM,
    run: Callable[[Sequence[str]], str] = run_probe,
) -> Accel:
    """KVM after it has proved itself, else TCG. Takes up to 10 s where KVM is there and does not work."""
    if not device.exists():
        return Accel(False, f"there is no {device}")
    if not os.access(device, os.R_OK | os.W_OK):
        return Accel(False, f"no permission to use {device}")
    if pvm.exists():
        return Accel(False, "this machine's KVM (kvm_pvm) runs only guests made for it")
    if READY in run(probe_argv(kernel, initrd)):
        return Accel(True, "KVM booted a kernel")
    return Accel(False, f"{device} is there, but a kernel did not boot with it within {PROBE_SECONDS:.0f} s")
