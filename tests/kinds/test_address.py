"""A NIC's entry in a list that others change, too."""

from dataclasses import replace

from tests.kinds.address_bench import AddressBench
from tests.kinds.machine.cluster import Fuse


def macs(bench: AddressBench) -> dict[str, str]:
    return {entry.mac[-2:]: entry.user for entry in bench.entries if entry.user}


def test_it_takes_the_first_free_entry_and_keeps_it() -> None:
    bench = AddressBench()
    bench.run(Fuse(), wanted=True)
    bench.run(Fuse(), wanted=True)
    assert macs(bench) == {"01": "Lars", "02": "anna (campus/web)"}
    assert bench.record.thing.facts.values["host"] == "pvm002.example.com"


def test_an_entry_whose_user_somebody_emptied_is_written_again() -> None:
    bench = AddressBench()
    bench.run(Fuse(), wanted=True)
    bench.entries[1] = replace(bench.entries[1], user="")
    bench.run(Fuse(), wanted=True)
    assert macs(bench)["02"] == "anna (campus/web)"


def test_an_entry_that_somebody_else_took_since_is_left_to_them() -> None:
    """No machine exists with its MAC yet."""
    bench = AddressBench()
    bench.run(Fuse(), wanted=True)
    bench.entries[1] = replace(bench.entries[1], user="Bob")
    bench.run(Fuse(), wanted=True)
    assert macs(bench) == {"01": "Lars", "02": "Bob", "03": "anna (campus/web)"}
    assert bench.record.thing.facts.values["mac"].endswith("03")


def test_a_lost_record_finds_its_entry_by_what_the_list_says() -> None:
    bench, other = AddressBench(), AddressBench()
    bench.run(Fuse(), wanted=True)
    other.entries = bench.entries
    other.run(Fuse(), wanted=True)
    assert other.entries == bench.entries
    other.check(wanted=True)
