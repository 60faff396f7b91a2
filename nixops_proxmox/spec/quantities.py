"""Sizes as people write them.

Ours and no library's: to PVE "32G" is binary and exact, while humanize and its like print sizes and do not read them.
"""

import re
from fractions import Fraction

UNITS = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}


def parse_size(value: object, *, unit: str) -> int:
    """Bytes. Numbers without a unit are in `unit`; "32G", "32GiB" and "0.5T" are binary, as in PVE. A ValueError says
    what is expected."""
    expected = f'expected a size such as 32 ({unit}iB) or "32G" (K, M, G or T)'
    text = str(value).strip() if isinstance(value, int | str) and not isinstance(value, bool) else ""
    found = re.fullmatch(r"([0-9]{1,15}(?:\.[0-9]{1,6})?) ?(?:([KMGT])(?:i?B)?)?", text, re.IGNORECASE)
    if not found:
        raise ValueError(expected)
    size = Fraction(found[1]) * UNITS[(found[2] or unit).upper()]
    if size.denominator != 1 or size % 1024:
        raise ValueError("expected a size in whole KiB")
    return int(size)
