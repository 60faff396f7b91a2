"""What verbs print with --json is what `nixops-proxmox schema` says of it: whoever runs one in a test checks that."""

import json
from collections.abc import Sequence
from functools import cache
from typing import Any

from jsonschema import Draft202012Validator

# Imports of the package wait until typeguard has seen it.


def check_printed(words: Sequence[str], printed: str) -> Any:
    """The value. `words`: what was typed. AssertionError if it has other keys or values than published."""
    value = json.loads(printed)
    wrong = [f"{error.json_path}: {error.message}" for error in validator(verb_of(words)).iter_errors(value)]
    assert not wrong, f"{' '.join(words)}: {wrong}"
    return value


def verb_of(words: Sequence[str]) -> str:
    from nixops_proxmox.messages.shapes.outputs import OUTPUTS

    line = f" {' '.join(words)} "
    found = [verb for verb in OUTPUTS if f" {verb} " in line]
    assert found, f"{line}: it prints JSON, and there is no schema of it"
    return max(found, key=len)


@cache
def validator(verb: str) -> Draft202012Validator:
    from nixops_proxmox.messages.shapes.outputs import schema_of

    schema = schema_of(verb)
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(closed(schema))


def closed(schema: Any) -> Any:
    """The same, for values that have no other keys. What is published lets programs expect more."""
    match schema:
        case dict():
            inner = {key: closed(value) for key, value in schema.items()}
            return {**inner, "additionalProperties": False} if isinstance(schema.get("properties"), dict) else inner
        case list():
            return [closed(one) for one in schema]
    return schema
