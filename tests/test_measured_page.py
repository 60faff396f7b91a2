"""The page of measured changes has the changes that the weekly tests make: all of them, in their order."""

from tests.e2e.test_measured_changes import CHANGES
from tests.measured import on_page, without_seconds


def test_each_change_has_its_row() -> None:
    rows = [line.split(" | ") for line in on_page("lab").splitlines()[2:]]
    assert [row[1] for row in rows] == [change.title for change in CHANGES]
    assert [row[2] for row in rows] == ["by hand" if change.hand else "description" for change in CHANGES]


def test_only_seconds_may_differ() -> None:
    row = "| 1 | more memory | it restarts once (down for about 3.2 s, as the last time) | 3.2 s | 1.5 s |"
    assert without_seconds(row) == without_seconds(row.replace("3.2", "41").replace("1.5", "2.5"))
    assert without_seconds(row) != without_seconds(row.replace("3.2 s |", "unknown |"))
    assert without_seconds(row) == without_seconds(row.replace("1.5 s", "1 min 20 s"))
