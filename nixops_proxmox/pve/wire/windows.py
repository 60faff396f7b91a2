"""Maintenance windows: when machines of a hypervisor may be changed."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, time, timedelta, tzinfo

DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
FORM = '"Sat 22:00-04:00", "Mon-Fri 20:00-23:30 Europe/Berlin" or "daily 01:00-05:00"'
_WINDOW = re.compile(r"(?:(daily)|(\w{3})(?:-(\w{3}))?) (\d\d):(\d\d)-(\d\d):(\d\d)(?: (\S+))?")


@dataclass(frozen=True)
class Window:
    """Begins on each of `days` (Monday is 0) at `start`, and is open for `length`. `zone` None: this computer's own."""

    days: frozenset[int]
    start: time
    length: timedelta
    zone: tzinfo | None = None
    text: str = ""

    def openings(self, moment: datetime) -> list[datetime]:
        """When it begins, from the day before the moment on, for nine days."""
        here = moment.astimezone(self.zone)
        days = [(here + timedelta(days=number)).date() for number in range(-1, 9)]
        begins = [datetime.combine(day, self.start, self.zone) for day in days if day.weekday() in self.days]
        return [one.astimezone(self.zone) for one in begins]

    def is_open(self, moment: datetime) -> bool:
        return any(begin <= moment.astimezone(self.zone) < begin + self.length for begin in self.openings(moment))


def parse_window(text: str) -> Window:
    """Raises ValueError, which says what is wrong."""
    found = _WINDOW.fullmatch(text.strip())
    if found is None:
        raise ValueError(f"{text!r} is no window, such as {FORM}")
    daily, first, last, *clock, zone = found.groups()
    start, end = (_time(text, hours, minutes) for hours, minutes in (clock[:2], clock[2:]))
    days = range(7) if daily else _days(text, first, last or first)
    length = (_since_midnight(end) - _since_midnight(start)) % timedelta(days=1) or timedelta(days=1)
    return Window(frozenset(days), start, length, _zone(text, zone), text.strip())


def _time(text: str, hours: str, minutes: str) -> time:
    try:
        return time(int(hours), int(minutes))
    except ValueError as error:
        raise ValueError(f"{text!r}: there is no {hours}:{minutes}") from error


def _since_midnight(clock: time) -> timedelta:
    return timedelta(hours=clock.hour, minutes=clock.minute)


def _days(text: str, first: str, last: str) -> list[int]:
    for name in (first, last):
        if name not in DAYS:
            raise ValueError(f"{text!r}: {name} is none of {', '.join(DAYS)}")
    begin, end = DAYS.index(first), DAYS.index(last)
    return [(begin + number) % 7 for number in range((end - begin) % 7 + 1)]


def _zone(text: str, name: str | None) -> tzinfo | None:
    if not name:
        return None
    from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError) as error:
        raise ValueError(f"{text!r}: there is no time zone {name}") from error


def is_open(windows: Sequence[Window], moment: datetime) -> bool:
    """Without any window it is always open."""
    return not windows or any(window.is_open(moment) for window in windows)


def find_opening(windows: Sequence[Window], moment: datetime) -> datetime:
    """When the next one begins."""
    return min(begin for window in windows for begin in window.openings(moment) if begin > moment)
