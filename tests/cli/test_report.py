"""The verb `report`: one file, from what was looked at or from the record alone."""

from pathlib import Path

from tests.cli.test_verbs import READY, Cli, cli

__all__ = ["cli"]  # the fixture


def test_a_report_has_the_plan_the_check_and_the_addresses(cli: Cli, tmp_path: Path) -> None:
    file = tmp_path / "shop.html"
    done = cli("report", "--html", str(file), recorded={**READY, "db": "installed"})
    assert (done.status, done.out) == (0, ""), done.err
    assert done.err.endswith(f"3 machines shown in {file}\n")
    page = file.read_text()
    for words in ("Deployment shop", "it runs the installer", "as described", "somebody else&#x27;s host key"):
        assert words in page
    assert file.stat().st_mode & 0o777 == 0o600


def test_a_report_of_some_machines_has_only_those(cli: Cli, tmp_path: Path) -> None:
    file = tmp_path / "web.html"
    assert cli("report", "web", "--html", str(file), recorded=READY).status == 0
    assert ">web<" in file.read_text() and ">db<" not in file.read_text()


def test_a_report_from_the_record_asks_nobody(cli: Cli, tmp_path: Path) -> None:
    file = tmp_path / "shop.html"
    done = cli("report", "--recorded", "--html", str(file), recorded=READY, failing={"web": "PveBusy"})
    assert done.status == 0, done.err
    assert "was asked" in file.read_text() and "What a deploy would do" not in file.read_text()


def test_a_machine_that_cannot_be_planned_is_in_the_report(cli: Cli, tmp_path: Path) -> None:
    file = tmp_path / "shop.html"
    assert cli("report", "--html", str(file), recorded=READY, failing={"web": "PveBusy"}).status == 0
    assert "web: it went wrong" in file.read_text()


def test_a_report_that_cannot_be_written_is_said(cli: Cli, tmp_path: Path) -> None:
    done = cli("report", "--recorded", "--html", str(tmp_path / "nowhere" / "a.html"), recorded=READY)
    assert done.status == 2 and "cannot be written" in done.err
    assert cli("report", recorded=READY).status == 2
