from datetime import datetime
from zoneinfo import ZoneInfo

import pytest

from nixops_proxmox.pve.wire.windows import find_opening, is_open, parse_window

BERLIN = ZoneInfo("Europe/Berlin")


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=BERLIN)


@pytest.mark.parametrize(
    ("window", "moment", "opened"),
    [  # 2026-11-28 is a Saturday
        ("Sat 22:00-04:00", "2026-11-28T22:00", True),
        ("Sat 22:00-04:00", "2026-11-28T21:59", False),
        ("Sat 22:00-04:00", "2026-11-29T03:59", True),
        ("Sat 22:00-04:00", "2026-11-29T04:00", False),
        ("Sat 22:00-04:00", "2026-11-29T22:30", False),
        ("Mon-Fri 20:00-23:30", "2026-11-27T21:00", True),
        ("Mon-Fri 20:00-23:30", "2026-11-28T21:00", False),
        ("Fri-Mon 20:00-23:30", "2026-11-29T21:00", True),
        ("Fri-Mon 20:00-23:30", "2026-12-01T21:00", False),
        ("daily 01:00-05:00", "2026-11-25T02:00", True),
        ("daily 01:00-05:00", "2026-11-25T06:00", False),
        ("daily 00:00-00:00", "2026-11-25T06:00", True),
    ],
)
def test_it_is_open_from_its_beginning_to_its_end(window: str, moment: str, opened: bool) -> None:
    assert is_open([parse_window(f"{window} Europe/Berlin")], at(moment)) is opened


def test_a_window_has_a_time_zone_of_its_own() -> None:
    window = parse_window("Sat 22:00-23:00 America/New_York")
    assert window.is_open(at("2026-11-29T04:30")) and not window.is_open(at("2026-11-28T22:30"))


def test_in_the_night_of_the_change_of_clocks_it_is_as_long_as_ever() -> None:
    window = parse_window("Sun 01:30-03:30 Europe/Berlin")
    assert window.is_open(at("2026-10-25T03:10")) and not window.is_open(at("2026-10-25T03:40"))


def test_the_next_one_is_found_in_a_week_at_the_latest() -> None:
    windows = [parse_window(f"{text} Europe/Berlin") for text in ("Sat 22:00-04:00", "Wed 12:00-13:00")]
    assert find_opening(windows, at("2026-11-29T05:00")) == at("2026-12-02T12:00")
    assert find_opening(windows[:1], at("2026-11-28T22:00")) == at("2026-12-05T22:00")
    assert is_open([], at("2026-11-28T22:00"))


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("sometimes", "is no window, such as"),
        ("Sat 22-04", "is no window"),
        ("Sam 22:00-04:00", "Sam is none of Mon"),
        ("Sat 24:00-04:00", "there is no 24:00"),
        ("Sat 22:60-04:00", "there is no 22:60"),
        ("Sat 22:00-04:00 Europe/Nowhere", "there is no time zone Europe/Nowhere"),
        ("Sat 22:00-04:00 ../../etc/passwd", "there is no time zone"),
    ],
)
def test_nonsense_is_named(text: str, told: str) -> None:
    with pytest.raises(ValueError, match=told.replace("/", "/")):
        parse_window(text)
