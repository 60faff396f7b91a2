"""What a running QEMU takes and has moved, as PVE's status shows it."""

import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

PAGE = os.sysconf("SC_PAGE_SIZE")
TICKS = os.sysconf("SC_CLK_TCK")


def parse_network(text: str, taps: Sequence[str]) -> dict[str, int]:
    """/proc/PID/net/dev: what a tap received is what the guest sent."""
    sent = received = 0
    for line in text.splitlines():
        name, colon, rest = line.partition(":")
        if colon and name.strip() in taps:
            fields = rest.split()
            sent += int(fields[0])
            received += int(fields[8])
    return {"netin": received, "netout": sent}


def of_process(pid: int, taps: Sequence[str]) -> dict[str, Any]:
    """Memory (bytes), processor time (share of a core since its start), network (bytes); {} if it is gone."""
    folder = Path(f"/proc/{pid}")
    try:
        fields = (folder / "stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        resident = int((folder / "statm").read_text(encoding="utf-8").split()[1]) * PAGE
        network = parse_network((folder / "net/dev").read_text(encoding="utf-8"), taps)
    except OSError:
        return {}
    seconds = max(time.clock_gettime(time.CLOCK_BOOTTIME) - int(fields[19]) / TICKS, 0.1)
    return {"mem": resident, "cpu": round((int(fields[11]) + int(fields[12])) / TICKS / seconds, 4), **network}


def of_disks(blockstats: Sequence[dict[str, Any]]) -> dict[str, int]:
    """query-blockstats: bytes of all drives."""
    return {
        "diskread": sum(each["stats"]["rd_bytes"] for each in blockstats),
        "diskwrite": sum(each["stats"]["wr_bytes"] for each in blockstats),
    }
