"""What verbs print with --json has a schema, which is published, and which tests compare with what is printed."""

import argparse
from collections.abc import Iterator

import pytest
from jsonschema import Draft202012Validator

from nixops_proxmox.messages.shapes.machines import ORIGINS, OUTCOMES
from nixops_proxmox.messages.shapes.outputs import OUTPUTS, schema_of
from nixops_proxmox.operations.drift import Origin
from nixops_proxmox.state.journal import AttemptOutcome
from tests.docs import shown
from tests.published import check_printed, verb_of

BY_A_HELPER = {  # a test runs them in other words: where, and in which
    "init": ("tests/cli/test_init.py", 'init(*make(lab), "--json"'),
    "recover": ("tests/e2e/test_saves.py", 'ask(bed, "recover", "--dry-run")'),
    "rollback": ("tests/e2e/test_saves.py", 'ask(bed, "rollback", "web")'),
    "backup": ("tests/e2e/test_saves.py", 'ask(bed, "backup", "--list")'),
}


def verbs_with(option: str, parser: argparse.ArgumentParser, path: str = "") -> Iterator[str]:
    below = shown.choices_of(parser)
    for word, inner in below.items():
        yield from verbs_with(option, inner, f"{path} {word}".strip())
    if not below and any(option in action.option_strings for action in parser._actions):
        yield path


def test_each_verb_that_prints_json_has_a_schema_and_no_other_has() -> None:
    assert sorted(verbs_with("--json", shown.in_full())) == sorted(OUTPUTS)


@pytest.mark.parametrize("verb", OUTPUTS)
def test_a_schema_is_one_and_a_test_compares_it_with_what_is_printed(verb: str) -> None:
    Draft202012Validator.check_schema(schema_of(verb))
    file, words = BY_A_HELPER.get(verb, ("", ""))
    run = (
        shown.is_run((shown.PROGRAM, *verb.split(), "--json")) if not file else words in (shown.ROOT / file).read_text()
    )
    assert run, "no test prints it"


@pytest.mark.parametrize("verb", OUTPUTS)
def test_a_schema_explains_each_key(verb: str) -> None:
    schema = schema_of(verb)
    for shape in [schema, *schema.get("$defs", {}).values()]:
        for key, one in shape.get("properties", {}).items():
            assert one.get("description"), key


@pytest.mark.parametrize(
    ("words", "printed", "wrong"),
    [
        (["history"], '{"history": [], "more": 1}', "'more' was unexpected"),
        (["history"], "{}", "'history' is a required property"),
        (["iso", "remove"], '{"volume": "a:b", "node": null, "removed": "yes"}', "removed: 'yes' is not of type"),
        (["lab", "status"], '{"up": true}', "is not valid under any of the given schemas"),
    ],
)
def test_what_is_not_as_published_is_noticed(words: list[str], printed: str, wrong: str) -> None:
    with pytest.raises(AssertionError, match=wrong):
        check_printed(words, printed)


def test_the_verb_is_found_among_what_was_typed() -> None:
    assert verb_of(["--deployment", "x", "volume", "list", "--json"]) == "volume list"
    with pytest.raises(AssertionError, match="no schema of it"):
        verb_of(["export", "ssh", "--json"])


def test_words_that_the_schemas_list_are_those_of_the_program() -> None:
    assert set(OUTCOMES) == set(AttemptOutcome)
    assert set(ORIGINS) == set(Origin)
