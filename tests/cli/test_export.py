"""The verb `export`: each format on stdout or in a file, whole."""

import json
from pathlib import Path

import pytest
import yaml  # type: ignore[import-untyped]

from nixops_proxmox.cli.export import FORMATS
from tests.cli.test_verbs import READY, Cli, cli

__all__ = ["cli"]  # the fixture


@pytest.mark.parametrize("name", FORMATS)
def test_each_format_names_the_machine_and_is_the_same_in_a_file(cli: Cli, tmp_path: Path, name: str) -> None:
    printed = cli("export", name, "web", recorded=READY)
    assert printed.status == 0, printed.err
    assert "10.0.0.7" in printed.out and "db" not in printed.out
    file = tmp_path / "exported"
    assert cli("export", name, "web", "--out", str(file), recorded=READY).out == ""
    written = file.read_text()
    beside = tmp_path / ".exported-known_hosts"
    assert written.replace(str(beside), "/state/known_hosts/web") == printed.out
    assert beside.exists() == (name == "ssh-config")
    assert not [left for left in tmp_path.iterdir() if left.name.startswith(".exported.") and left != beside]


def test_ansible_asks_as_it_asks_inventory_scripts(cli: Cli) -> None:
    listed = cli("export", "ansible", "--list", recorded=READY).value
    assert listed["deployment_shop"]["hosts"] == ["app", "db", "web"]
    host = cli("export", "ansible", "--host", "db", recorded=READY).value
    assert host == listed["_meta"]["hostvars"]["db"]
    assert cli("export", "ansible", "--host", "nobody", recorded=READY).value == {}
    static = yaml.safe_load(cli("export", "ansible", "--static", recorded=READY).out)
    assert list(static["all"]["hosts"]) == ["app", "db", "web"]


def test_a_file_that_cannot_be_written_is_said(cli: Cli, tmp_path: Path) -> None:
    done = cli("export", "hosts", "--out", str(tmp_path / "nowhere" / "hosts"), recorded=READY)
    assert done.status == 2 and "cannot be written" in done.err


def test_formats_have_words_of_their_own(cli: Cli) -> None:
    targets = cli("export", "prometheus", "--port", "9273", "web", recorded=READY).value
    assert targets[0]["targets"] == ["10.0.0.7:9273"]
    assert json.loads(cli("export", "terraform", "--external", recorded=READY).out)["web.address"] == "10.0.0.7"
    assert cli("export", "picture").status == 2
