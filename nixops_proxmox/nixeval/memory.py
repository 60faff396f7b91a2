"""How much memory evaluations may use here, and how many run side by side."""

import os
import re
from collections.abc import Mapping
from pathlib import Path

from nixops_proxmox.errors import ConfigError
from nixops_proxmox.nixeval.batches import Bounds

MEMORY_VARIABLE, WORKERS_VARIABLE = "NIXOPS_PROXMOX_EVAL_MEMORY", "NIXOPS_PROXMOX_EVAL_WORKERS"
MIB = 1 << 20
EACH = 2048 * MIB  # what a worker has at least, if there are several; a large NixOS needs 1 GiB
SHARE = 0.75  # of the memory that is free
UNKNOWN = 4096 * MIB  # where no system tells what is free
LEAST = 512 * MIB  # below that no NixOS can be evaluated, so it is tried all the same
BESIDE = 128 * MIB  # what a Nix uses beside its heap


def find_bounds(
    environment: Mapping[str, str] | None = None, *, cpus: int | None = None, free: int | None = None
) -> Bounds:
    """As the user's environment says it, or else three quarters of what is free, and a worker for each processor that
    has its 2 GiB. ConfigError for what is no number."""
    environment = os.environ if environment is None else environment
    cpus = len(os.sched_getaffinity(0)) if cpus is None and hasattr(os, "sched_getaffinity") else cpus or os.cpu_count()
    memory = _number(environment, MEMORY_VARIABLE) * MIB
    if not memory:
        memory = max(LEAST, int((free_memory() if free is None else free) * SHARE))
    workers = _number(environment, WORKERS_VARIABLE) or min(cpus or 1, memory // EACH)
    return Bounds(max(1, workers), memory)


def heap_settings(memory: int) -> dict[str, str]:
    """The environment of a Nix that may use so many bytes. Its collector keeps to them, and gives up beyond."""
    return {"GC_MAXIMUM_HEAP_SIZE": str(max(BESIDE, memory - BESIDE))}


def free_memory(proc: Path = Path("/proc"), groups: Path = Path("/sys/fs/cgroup")) -> int:
    """Bytes that programs here can still get: of the computer, and of the control group that we are in."""
    found = re.search(r"^MemAvailable:\s+(\d+) kB", _read(proc / "meminfo"), re.MULTILINE)
    whole = int(found[1]) * 1024 if found else UNKNOWN
    return min(whole, _free_of_group(groups, _read(proc / "self" / "cgroup")))


def _free_of_group(groups: Path, membership: str) -> int:
    """The least that our group, and those above it, have left. A group without a bound has all."""
    found = re.search(r"^0::/(.*)$", membership, re.MULTILINE)
    inner = groups / found[1] if found else groups
    left = [1 << 62]
    for folder in (inner, *inner.parents):
        limit, used = _read(folder / "memory.max").strip(), _read(folder / "memory.current").strip()
        cached = re.search(r"^inactive_file (\d+)$", _read(folder / "memory.stat"), re.MULTILINE)
        if limit.isdecimal() and used.isdecimal():
            left.append(int(limit) - int(used) + (int(cached[1]) if cached else 0))
        if folder == groups:
            break
    return max(0, min(left))


def _read(file: Path) -> str:
    try:
        return file.read_text()
    except OSError:
        return ""


def _number(environment: Mapping[str, str], variable: str) -> int:
    text = environment.get(variable, "")
    if text and not (text.isdecimal() and int(text) > 0):
        raise ConfigError(f"{variable} is {text!r}, which is no number", hint=f"for example {variable}=4096")
    return int(text or 0)
