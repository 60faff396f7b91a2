"""Real guests: how long the parts of an installation take, and how much of it is the tool's own work."""

import os
import re
import statistics
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.qemu.bed import GuestBed

NETWORK = """\
builtins.listToAttrs (map (number: rec {
  name = "m${toString number}";
  value = {
    deployment.proxmox = {
      disks = [ { storage = "local-lvm"; size = "2G"; } ];
      memory = 512;
      network = [ { bridge = "vmbr0"; } ];
      install.iso = "local:iso/lab-installer.iso";
    };
    toplevel = import DEMO/system.nix {
      inherit name;
      hosts = { };
      service = { port = 80; handler = "echo ${name}"; };
    };
  };
}) (builtins.genList (number: number) COUNT))
"""
MEANING = {
    "boot_to_agent_s": "from the call that starts the VM with the installer to the guest agent's first answer",
    "boot_to_sshd_s": "from the same to an endpoint that is proven by the installer's host key",
    "partition_s": "the step: disks proven, the default layout made and mounted",
    "install_s": "the step: closure copied to /mnt, keys delivered, nixos-install",
    "reboot_s": "from the installed disk to a system that is reached and active",
    "ready_s": "the whole command, from nothing",
    "tool_cpu_s": "user and system time of the command and of all that it starts (Nix, ssh)",
    "tool_share": "tool_cpu_s of ready_s",
    "outside_of_steps_s": "what the command takes before its first step and after its last: start, evaluation, build",
}


def measure_guests(folder: Path, sizes: Sequence[int], say: Callable[[str], None]) -> dict[str, Any]:
    """{"accel", "meaning", "runs": [a row per size]}: times in seconds, medians over the machines of a run."""
    from tests.lab.qemu.conftest import find_obstacle
    from tests.qemu.bed import start_guest_bed

    if obstacle := find_obstacle():
        raise SystemExit(f"bench: there can be no real guests here: {obstacle}")
    with start_guest_bed(folder / "user") as bed:
        rows = []
        for size in sizes:
            say(f"{size} real guest{'s' * (size > 1)}, from nothing to ready")
            rows.append(measure_run(bed.named(f"bench-{size}", NETWORK.replace("COUNT", str(size))), size))
        return {"cpus": os.cpu_count(), "accel": accelerator(bed), "meaning": MEANING, "runs": rows}


def accelerator(bed: "GuestBed") -> str:
    found = re.search(r"guests run on (\w+)", (bed.lab_folder / "lab.log").read_text())
    return found[1] if found else "unknown"


def measure_run(bed: "GuestBed", size: int) -> dict[str, Any]:
    """One deploy, and everything destroyed again."""
    bed.forget_calls()
    load = os.getloadavg()[0]
    began = time.time()
    process = bed.start("deploy")
    _, status, used = os.wait4(process.pid, 0)
    wall = time.time() - began
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, "deploy", bed.log.read_text(errors="replace"))
    history, calls = bed.history(), bed.calls()
    machines = {machine["machine"]: machine["vmid"] for machine in bed.status()}
    bed.run("destroy", "--yes")
    parts = [parts_of(name, vmid, history, calls) for name, vmid in machines.items()]
    cpu = used.ru_utime + used.ru_stime
    steps = max(entry["ended"] for entry in history) - min(entry["began"] for entry in history)
    return {
        "machines": size,
        "ready_s": round(wall, 1),
        **{name: round(statistics.median(part[name] for part in parts), 1) for name in parts[0]},
        "tool_cpu_s": round(cpu, 2),
        "tool_share": round(cpu / wall, 3),
        "outside_of_steps_s": round(wall - steps, 2),
        "load_before": round(load, 1),
    }


def parts_of(
    name: str, vmid: int, history: Iterable[Mapping[str, Any]], calls: Iterable[Mapping[str, Any]]
) -> dict[str, float]:
    """One machine's own times, out of the journal and of the calls that the lab has answered."""
    steps = {entry["to"]: entry for entry in history if entry["machine"] == name and entry["outcome"] == "done"}
    ours = [call for call in calls if f"/qemu/{vmid}/" in call["path"]]
    start = next(call["time"] for call in ours if call["path"].endswith("/status/start"))
    first = next(n for n, call in enumerate(ours) if "/agent/" in call["path"] and call["status"] == 200)
    agent = ours[first + 1]["time"]  # a call's own time is when it came, and that one waited for the agent
    return {
        "boot_to_agent_s": agent - start,
        "boot_to_sshd_s": steps["reachable"]["ended"] - start,
        "partition_s": steps["partitioned"]["ended"] - steps["partitioned"]["began"],
        "install_s": steps["installed"]["ended"] - steps["installed"]["began"],
        "reboot_s": steps["ready"]["ended"] - steps["running"]["began"],
    }


def guest_summary(result: Mapping[str, Any]) -> list[str]:
    """A line for each run, for people."""
    return [
        f"{row['machines']} real guests ({result['accel']}, {result['cpus']} CPUs): ready in {row['ready_s']} s; "
        f"agent {row['boot_to_agent_s']} s and sshd {row['boot_to_sshd_s']} s after power-on, "
        f"partition {row['partition_s']} s, install {row['install_s']} s, reboot {row['reboot_s']} s; "
        f"the tool's own work {row['tool_cpu_s']} s "
        f"({row['tool_share']:.1%})"
        for row in result["runs"]
    ]
