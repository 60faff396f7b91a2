from pathlib import Path

import pytest

from nixops_proxmox.errors import ConfigError
from nixops_proxmox.nixeval.batches import Bounds
from nixops_proxmox.nixeval.memory import MIB, UNKNOWN, find_bounds, free_memory

GIB = 1024 * MIB


@pytest.mark.parametrize(
    ("said", "cpus", "free", "bounds"),
    [
        ({}, 8, 32 * GIB, Bounds(8, 24 * GIB)),
        ({}, 64, 8 * GIB, Bounds(3, 6 * GIB)),
        ({}, 2, GIB, Bounds(1, 768 * MIB)),
        ({}, 2, 0, Bounds(1, 512 * MIB)),
        ({"NIXOPS_PROXMOX_EVAL_MEMORY": "8192"}, 16, GIB, Bounds(4, 8 * GIB)),
        ({"NIXOPS_PROXMOX_EVAL_WORKERS": "3"}, 1, 4 * GIB, Bounds(3, 3 * GIB)),
    ],
)
def test_workers_are_as_many_as_memory_and_processors_allow(
    said: dict[str, str], cpus: int, free: int, bounds: Bounds
) -> None:
    assert find_bounds(said, cpus=cpus, free=free) == bounds


@pytest.mark.parametrize("text", ["much", "-1", "0", "1.5"])
def test_what_is_no_number_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="NIXOPS_PROXMOX_EVAL_MEMORY is"):
        find_bounds({"NIXOPS_PROXMOX_EVAL_MEMORY": text})


def test_a_control_group_has_less_than_the_computer(tmp_path: Path) -> None:
    proc, groups = tmp_path / "proc", tmp_path / "groups"
    inner = groups / "ci" / "job"
    (proc / "self").mkdir(parents=True)
    inner.mkdir(parents=True)
    assert free_memory(proc, groups) == UNKNOWN
    (proc / "meminfo").write_text(f"MemTotal: 9 kB\nMemAvailable:    {8 * GIB // 1024} kB\n")
    (proc / "self" / "cgroup").write_text("0::/ci/job\n")
    assert free_memory(proc, groups) == 8 * GIB
    (inner / "memory.max").write_text("max\n")
    for name, value in {
        "memory.max": 3 * GIB,
        "memory.current": 2 * GIB,
        "memory.stat": f"inactive_file {GIB}",
    }.items():
        (groups / "ci" / name).write_text(f"{value}\n")
    assert free_memory(proc, groups) == 2 * GIB, "what files keep cached is given up for programs"
