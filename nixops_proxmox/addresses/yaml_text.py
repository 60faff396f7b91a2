"""YAML lists. Only the lines of one entry's user and date are written again, so blanks, comments and order stay."""

import io
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nixops_proxmox.addresses.entry import field_of
from nixops_proxmox.errors import ConfigError


def read(path: Path, text: str) -> Sequence[tuple[int, Mapping[str, object]]]:
    """Line and values of each entry."""
    _, entries = _load(path, text)
    return [(entry.lc.line + 1, dict(entry)) for entry in entries]


def write(path: Path, text: str, index: int, values: Mapping[str, str]) -> str:
    """The text with these values, by field."""
    document, entries = _load(path, text)
    entry = entries[index]
    if entry.fa.flow_style():
        return _dumped(document, entry, values)
    lines = text.splitlines(keepends=True)
    keys = {field_of(str(key)): key for key in entry}
    last = max(entry.lc.key(key)[0] for key in entry)
    indent = entry.lc.key(next(iter(entry)))[1]
    capital = str(keys["mac"])[:1].isupper()
    new = []
    for field, value in values.items():
        if field in keys:
            line = entry.lc.key(keys[field])[0]
            lines[line] = _with_value(lines[line], str(keys[field]), value)
        elif value:
            new.append(f"{' ' * indent}{field.capitalize() if capital else field}: {_scalar(value)}\n")
    if new and not lines[last].endswith("\n"):
        lines[last] += "\n"
    lines[last + 1 : last + 1] = new
    return "".join(lines)


def _with_value(line: str, key: str, value: str) -> str:
    """Another value on the line of `key`; blanks before the value and a comment behind it stay."""
    found = re.fullmatch(
        rf"""(?P<head>.*?["']?{re.escape(key)}["']?\s*:)(?P<gap>(?:[ \t]+(?![ \t\#]))?)"""
        r"""(?P<value>"(?:[^"\\]|\\.)*"|'(?:[^']|'')*'|(?:(?!\s\#)[^\r\n])*?)(?P<tail>(?:[ \t]+\#[^\r\n]*)?\s*)""",
        line,
        re.DOTALL,
    )
    if found is None:
        return line
    if not value:
        return found["head"] + found["tail"]
    return f"{found['head']}{found['gap'] or ' '}{_scalar(value)}{found['tail']}"


def _scalar(value: str) -> str:
    """As plain text where that is the same text to every reader."""
    plain = re.fullmatch(r"[A-Za-z][\w ./@()+-]*[\w)]|\d{4}-\d\d-\d\d", value)
    if plain and value.lower() not in ("yes", "no", "on", "off", "true", "false", "null"):
        return value
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _dumped(document: Any, entry: Any, values: Mapping[str, str]) -> str:
    """An entry between braces: ruamel writes the document, with comments and order."""
    keys = {field_of(str(key)): key for key in entry}
    for field, value in values.items():
        if value or field in keys:
            entry[keys.get(field, field.capitalize())] = value or None
    out = io.StringIO()
    _parser().dump(document, out)
    return out.getvalue()


def _load(path: Path, text: str) -> tuple[Any, list[Any]]:
    from ruamel.yaml.error import MarkedYAMLError, YAMLError

    try:
        document = _parser().load(text)
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f", line {mark.line + 1}" if mark is not None else ""
        raise ConfigError(f"{path}{where}: {error.problem or error.context}") from error
    except (YAMLError, ValueError) as error:
        raise ConfigError(f"{path}: it is not YAML: {error}") from error
    entries = document
    if isinstance(document, dict):
        lists = [value for value in document.values() if isinstance(value, list)]
        entries = lists[0] if len(lists) == 1 else None
    if entries is None and not text.strip():
        return document, []
    if not isinstance(entries, list):
        raise ConfigError(f"{path}: expected one list of entries", hint="begin each entry with a line - Host: …")
    for at, entry in enumerate(entries):
        if not isinstance(entry, dict) or not entry:
            line = entries.lc.item(at)[0] + 1  # type: ignore[attr-defined]  # ruamel's list knows its lines
            raise ConfigError(f"{path}, line {line}: expected an entry such as - Host: pvm001.example.com, and its MAC")
    return document, list(entries)


def _parser() -> Any:
    from ruamel.yaml import YAML

    parser = YAML()  # round trip, YAML 1.2: 00:11:22:33:44:55 is text
    parser.preserve_quotes = True
    parser.width = 4096
    return parser
