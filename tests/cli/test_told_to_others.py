"""What is printed for the configuration of other programs: sops, agenix, DHCP servers."""

import pytest

from tests.cli.test_verbs import Cli, cli

__all__ = ["cli"]  # the fixture


@pytest.mark.parametrize(
    ("option", "begin"), [("--age", "age1"), ("--ssh", "ssh-ed25519 AAAA"), ("--known-hosts", "web,10.0.0.7 ssh-")]
)
def test_an_identity_is_printed_for_one_program_alone(cli: Cli, option: str, begin: str) -> None:
    done = cli("identity", "show", "web", option)
    assert done.status == 0, done.err
    (line,) = done.out.splitlines()
    assert line.startswith(begin)


def test_a_key_that_was_made_by_the_question_is_said(cli: Cli) -> None:
    done = cli("identity", "show", "--age", "db")
    assert "db does not exist yet; it has this key from now on" in done.err
    assert len(cli("identity", "show", "--json").value["identities"]) == 3


def test_reservations_name_what_is_left_out(cli: Cli) -> None:
    done = cli("reservations", "export", "--format", "dnsmasq")
    assert done.status == 0, done.err
    assert "so it is left out" in done.err
    assert cli("reservations", "export").status == 2
