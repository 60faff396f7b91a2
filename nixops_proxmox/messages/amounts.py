"""Durations, moments, progress, and single lines, as they are shown.

Durations are ours, because humanize rounds to one unit or writes whole sentences, and these stand in columns.
"""

import re

from nixops_proxmox.secrecy import redact
from nixops_proxmox.texts import moment_text, shown_line


def one_line(text: str) -> str:
    """The last line that says something, without control characters."""
    lines = [line for line in re.split(r"[\r\n]+", redact(text)) if line.strip()]
    return shown_line(re.sub(r"\x1b\[[0-9;?]*[A-Za-z]|[\x00-\x1f\x7f]", " ", lines[-1]).strip()) if lines else ""


UNITS = {"bytes": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40}
_UNIT = "|".join(UNITS)


def find_fraction(detail: str) -> float | None:
    """How far an upload, a copy or a download is, if its text says so: "37 %", "[3/12 copied]", "3 of 12",
    "61 MiB of 2.4 GiB"."""
    if found := re.search(r"(?<![\d.])(\d{1,3}(?:\.\d+)?) ?%", detail):
        return min(float(found[1]) / 100, 1.0)
    if found := re.search(rf"(?<![\w.])(\d+(?:\.\d+)?) ?({_UNIT}) of (\d+(?:\.\d+)?) ?({_UNIT})\b", detail):
        whole = float(found[3]) * UNITS[found[4]]
        return min(float(found[1]) * UNITS[found[2]] / whole, 1.0) if whole > 0 else None
    if found := re.search(r"(?<![\w./])(\d+(?:\.\d+)?)(?:/| of )(\d+(?:\.\d+)?)(?![\w./])", detail):
        whole = float(found[2])
        return min(float(found[1]) / whole, 1.0) if whole > 0 else None
    return None


def duration(seconds: float) -> str:
    """`4.1 s`, `42 s`, `3 min 05 s`, `2 h 07 min`."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02} min"


def amount(count: int) -> str:
    """`512 bytes`, `61 KiB`, `118 MiB`, `2.4 GiB`: bytes, as people read them."""
    if count < 1024:
        return f"{count} bytes"
    power = next((power for power in (1, 2, 3) if count < 1023.5 * 1024**power), 4)
    value, unit = count / 1024**power, ("KiB", "MiB", "GiB", "TiB")[power - 1]
    return f"{value:.1f} {unit}" if value < 9.95 else f"{value:.0f} {unit}"


def growth(count: int) -> str:
    """`+61 MiB`, `-3 KiB`. Empty where nothing changes that people would see."""
    return "" if abs(count) < 1024 else f"{'+' if count > 0 else '-'}{amount(abs(count))}"


def epoch_text(seconds: float) -> str:
    """A moment, in the user's time zone. `-` for none."""
    return moment_text(seconds) if seconds else "-"
