"""The page of measured changes has the changes that the weekly tests make: all of them, in their order."""

import pytest

from tests.e2e import test_measured_changes as on_the_lab
from tests.measured import Change, on_page, without_seconds
from tests.qemu import test_changes as on_qemu


@pytest.mark.parametrize(("name", "changes"), [("lab", on_the_lab.CHANGES), ("qemu", on_qemu.CHANGES)])
def test_each_change_has_its_row(name: str, changes: tuple[Change, ...]) -> None:
    rows = [line.split(" | ") for line in on_page(name).splitlines()[2:]]
    assert [row[1] for row in rows] == [change.title for change in changes]
    assert [row[2] for row in rows] == ["by hand" if change.hand else "description" for change in changes]


def test_only_seconds_may_differ() -> None:
    row = "| 1 | more memory | it restarts once (down for about 3.2 s, as the last time) | 3.2 s | 1.5 s |"
    assert without_seconds(row) == without_seconds(row.replace("3.2", "41").replace("1.5", "2.5"))
    assert without_seconds(row) != without_seconds(row.replace("3.2 s |", "unknown |"))
    assert without_seconds(row) == without_seconds(row.replace("1.5 s", "1 min 20 s"))
