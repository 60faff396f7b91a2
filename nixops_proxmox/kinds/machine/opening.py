"""Who opened the encrypted disk of a system that runs, as the system itself tells. Pure."""

import re
from dataclasses import dataclass

from nixops_proxmox.texts import script_marker

_TOLD = "nixops-proxmox-opened"
OPENED, BOOT = "opened", "boot"  # in `Facts.luks`: when the machine last booted without help, and that boot's ID


@dataclass(frozen=True)
class Opening:
    """`booted`: seconds since the epoch. `by_itself`: the sealed key opened it, and no passphrase was asked for;
    False where the system cannot tell."""

    boot: str
    booted: int
    by_itself: bool


def opening_script() -> str:
    """NixOS's first stage runs a unit for each, and its journal is that of the system. Others say it to the kernel."""
    return f"""{script_marker("luks-opened")}\
done_by() {{ journalctl --boot --quiet --lines 1 --output cat UNIT="$1" JOB_RESULT=done 2>/dev/null | grep -q .; }}
how=unknown
if command -v journalctl >/dev/null; then
  if done_by systemd-ask-password-console.service; then how=asked
  elif done_by cryptsetup-clevis-root.service; then how=sealed
  fi
elif dmesg 2>/dev/null | grep -q 'unlock: opened by the sealed key'; then how=sealed
fi
echo "{_TOLD} $(cat /proc/sys/kernel/random/boot_id) $(sed -n 's/^btime //p' /proc/stat) $how"
"""


def parse_opening(printed: str) -> Opening | None:
    """None: it does not tell."""
    found = re.fullmatch(rf"{_TOLD} ([0-9a-f-]{{36}}) (\d{{1,12}}) (sealed|asked|unknown)\n?", printed)
    return Opening(found[1], int(found[2]), found[3] == "sealed") if found else None
