"""docs/json.md's tables, from the JSON Schemas that `nixops-proxmox schema` prints."""

from collections.abc import Iterator, Mapping
from typing import Any

Schema = Mapping[str, Any]
WORDS = {"string": "text", "integer": "whole number", "number": "number", "boolean": "true or false", "null": "null"}


def json_tables() -> str:
    """A section for each verb. What several verbs print is told where it comes first."""
    from nixops_proxmox.messages.shapes.outputs import OUTPUTS, schema_of

    parts: list[str] = []
    told: set[str] = set()
    for verb in OUTPUTS:
        schema = schema_of(verb)
        parts.append(f"## `{verb} --json`")
        known = schema.get("$defs", {})
        alternatives = [known[name_of(one)] for one in schema.get("anyOf", ())]
        for shape in alternatives or [schema]:
            parts += [shape["description"]] if alternatives and "description" in shape else []
            parts.append(table(shape))
        for name in (name for shape in alternatives or [schema] for name in mentioned(shape, known)):
            if name not in told:
                told.add(name)
                parts.append(f"### {name}\n\n{table(known[name])}")
    return "\n\n".join(parts)


def mentioned(shape: Schema, known: Schema) -> Iterator[str]:
    """The names of the objects in it, as a reader comes to them."""
    below = [name for one in shape["properties"].values() for name in names_in(one)]
    yield from below
    for name in below:
        yield from mentioned(known[name], known)


def names_in(one: Schema) -> list[str]:
    if "$ref" in one:
        return [name_of(one)]
    inner = [*one.get("anyOf", ()), *(one[key] for key in ("items", "additionalProperties") if key in one)]
    return [name for part in inner if isinstance(part, Mapping) for name in names_in(part)]


def table(shape: Schema) -> str:
    return "\n".join(["| key | value | what it is |", "| --- | --- | --- |", *rows(shape)])


def rows(shape: Schema) -> Iterator[str]:
    for key, one in shape["properties"].items():
        yield f"| `{key}` | {value_of(one)} | {about(one)} |"


def about(one: Schema) -> str:
    among = ", ".join(f"`{value}`" for value in one.get("enum", ()))
    return f"{one['description']}{': ' if among else ''}{among}".replace("|", "\\|")


def value_of(one: Schema) -> str:
    """Its type, in words."""
    if "$ref" in one:
        name = name_of(one)
        return f"[{name}](#{name.lower()})"
    if "anyOf" in one:
        return " or ".join(value_of(inner) for inner in one["anyOf"])
    if "const" in one:
        return str(one["const"]).lower()
    match one.get("type"):
        case "array":
            return f"list of {value_of(one['items'])}"
        case "object":
            inner = one.get("additionalProperties")
            return f"{value_of(inner)} by name" if isinstance(inner, Mapping) else "object"
    return WORDS.get(one.get("type", ""), "anything")


def name_of(one: Schema) -> str:
    return str(one["$ref"]).rpartition("/")[2]
