"""Lines for people, on a terminal of any width."""

from hypothesis import given
from hypothesis import strategies as st

from nixops_proxmox.messages.lines import fitted

WORDS = st.lists(st.text("abc-é→", min_size=1, max_size=30), min_size=1, max_size=20)


def test_a_line_continues_deeper_than_it_began() -> None:
    line = "  units: unknown, because the new system is not there"
    assert list(fitted(line, 30)) == ["  units: unknown, because the", "      new system is not there"]


def test_what_fits_stays_as_it_is() -> None:
    assert list(fitted("a  b\n    c", 10)) == ["a  b", "    c"]


@given(WORDS, st.integers(10, 60))
def test_no_word_is_broken_or_lost_and_only_single_words_stand_out(words: list[str], width: int) -> None:
    lines = list(fitted("  " + " ".join(words), width))
    assert " ".join(lines).split() == words
    assert [line for line in lines if len(line) > width and len(line.split()) > 1] == []
