"""Lists of MACs in their three formats: what is read, what is written, and what stays as it is."""

from pathlib import Path

import pytest

from nixops_proxmox.addresses.files import read_entries, write_entry
from nixops_proxmox.errors import ConfigError

SEED = """\
# our addresses; ask Lars before you add one
- Host: pvm001.example.com
  IPv4: 131.173.12.22
  IPv6: 2001:638:508:160::83ad:1705
  MAC:  DE:AD:BE:EF:00:00
  User: Lars
  Date: 2022-02-19

# free:
- Host: pvm002.example.com   # the second
  IPv4: 131.173.12.23
  MAC:  DE:AD:BE:EF:00:01
  User:          # nobody
  Date:
- MAC: "de:ad:be:ef:00:02"
  Host: pvm003.example.com
"""
TOML = """\
# ours
[[machine]]
Host = "pvm001.example.com"
MAC = "DE:AD:BE:EF:00:00"   # a comment
User = "Lars"

[[machine]]
Host = "pvm002.example.com"
MAC = "DE:AD:BE:EF:00:01"
"""
CSV = """\
Host;IPv4;IPv6;MAC;User;Date
# ours
pvm001.example.com;131.173.12.22;;DE:AD:BE:EF:00:00;Lars;2022-02-19
pvm002.example.com;131.173.12.23;;DE:AD:BE:EF:00:01
"""


def changed(name: str, text: str, index: int, user: str = "anna (campus/web)", date: str = "2026-11-29") -> list[str]:
    """The lines that differ, as diff shows them."""
    import difflib

    written = write_entry(Path(name), text, index, {"user": user, "date": date})
    found = difflib.ndiff(text.splitlines(), written.splitlines())
    return [line for line in found if line[0] in "+-"]


def test_the_list_of_the_seed_is_read_as_it_is() -> None:
    first, second, third = read_entries(Path("machines.yml"), SEED)
    assert (first.line, first.host, first.mac, first.user, first.date) == (
        2, "pvm001.example.com", "DE:AD:BE:EF:00:00", "Lars", "2022-02-19",
    )  # fmt: skip
    assert str(first.ipv4) == "131.173.12.22/32" and str(first.ipv6) == "2001:638:508:160::83ad:1705/128"
    assert (second.user, second.date, second.ipv6) == ("", "", None)
    assert (third.mac, third.label) == ("DE:AD:BE:EF:00:02", "pvm003")


def test_only_user_and_date_of_one_entry_are_written() -> None:
    assert changed("machines.yml", SEED, 1) == [
        "-   User:          # nobody",
        "-   Date:",
        "+   User: anna (campus/web)          # nobody",
        "+   Date: 2026-11-29",
    ]
    assert changed("machines.yml", SEED, 2) == ["+   User: anna (campus/web)", "+   Date: 2026-11-29"]


def test_what_is_given_back_is_empty_again() -> None:
    assert changed("machines.yml", SEED, 0, "", "") == [
        "-   User: Lars", "-   Date: 2022-02-19", "+   User:", "+   Date:",
    ]  # fmt: skip
    taken = write_entry(Path("m.yml"), SEED, 2, {"user": "anna (campus/web)", "date": "2026-11-29"})
    assert read_entries(Path("m.yml"), write_entry(Path("m.yml"), taken, 2, {"user": "", "date": ""}))[2].user == ""


@pytest.mark.parametrize(
    "user", ['O\'Brien: "x" # y', "yes", "0x10", "- a", "*a", "ä ö", "uid 0 (a/b)", "[a]", "a: b", "12"]
)
@pytest.mark.parametrize(("name", "text"), [("m.yml", SEED), ("m.toml", TOML), ("m.csv", CSV)])
def test_every_user_is_read_back_as_it_was_written(name: str, text: str, user: str) -> None:
    written = write_entry(Path(name), text, 1, {"user": user, "date": "2026-11-29"})
    entry = read_entries(Path(name), written)[1]
    assert (entry.user, entry.date) == (user, "2026-11-29")


def test_entries_between_braces_and_below_a_name_are_written_too() -> None:
    text = "machines:\n  # one\n  - {Host: a.example.org, MAC: 00:11:22:33:44:54, User: }\n"
    written = write_entry(Path("m.yaml"), text, 0, {"user": "anna", "date": "2026-11-29"})
    assert read_entries(Path("m.yaml"), written)[0].user == "anna" and "# one" in written


def test_toml_keeps_comments_and_order() -> None:
    assert changed("m.toml", TOML, 0) == ['- User = "Lars"', '+ User = "anna (campus/web)"', '+ Date = "2026-11-29"']
    assert [entry.line for entry in read_entries(Path("m.toml"), TOML)] == [2, 7]


def test_csv_writes_one_line_with_its_own_separator() -> None:
    assert changed("m.csv", CSV, 1) == [
        "- pvm002.example.com;131.173.12.23;;DE:AD:BE:EF:00:01",
        "+ pvm002.example.com;131.173.12.23;;DE:AD:BE:EF:00:01;anna (campus/web);2026-11-29",
    ]


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("m.yml", "- MAC: DE:AD:BE:EF:00:00\n- MAC: [\n", "m.yml, line 3:"),
        ("m.yml", "- MAC: DE:AD:BE:EF:00:00\n- Host: b\n", "m.yml, line 2: the entry has no MAC"),
        ("m.yml", "- MAC: DE:AD:BE:EF:00\n", "m.yml, line 1: expected a MAC address"),
        ("m.yml", "- MAC: DF:AD:BE:EF:00:00\n", "m.yml, line 1: expected a unicast MAC"),
        ("m.yml", "- MAC: DE:AD:BE:EF:00:00\n  IPv4: fd00::1\n", "m.yml, line 1: expected an IPv4 address"),
        ("m.yml", "- MAC: DE:AD:BE:EF:00:00\n\n- MAC: de:ad:be:ef:00:00\n", "lines 1 and 3 have the same MAC"),
        ("m.yml", "- web\n- MAC: DE:AD:BE:EF:00:00\n", "m.yml, line 1: expected an entry"),
        ("m.yml", "a: 1\n", "expected one list of entries"),
        ("m.toml", "[[machine]]\nMAC = \n", "m.toml, line 2:"),
        ("m.toml", "a = 1\n", "expected one array of tables"),
        ("m.csv", "Host,User\na,b\n", "m.csv, line 1: there is no column MAC"),
        ("m.csv", "Host,MAC\na,DE:AD:BE:EF:00:00,x\n", "m.csv, line 2: 3 cells"),
        ("m.csv", 'Host,MAC\n"a,DE:AD:BE:EF:00:00\n', "m.csv, line 2: a quotation mark is not closed"),
        ("m.xls", "", "its format is not known"),
    ],
)
def test_what_is_wrong_is_told_with_its_line(name: str, text: str, told: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read_entries(Path(name), text)
    assert told in caught.value.message


def test_a_column_that_lacks_is_named() -> None:
    with pytest.raises(ConfigError, match="line 1: there is no column user and date"):
        write_entry(Path("m.csv"), "MAC\nDE:AD:BE:EF:00:00\n", 0, {"user": "anna", "date": "2026-11-29"})
