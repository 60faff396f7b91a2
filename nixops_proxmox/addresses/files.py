"""The three formats of a list. Each reads entries with their lines, and writes user and date of one of them, as text
in which everything else stays as it is."""

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nixops_proxmox.addresses import yaml_text
from nixops_proxmox.addresses.entry import PoolEntry, field_of, parse_entry, refuse_doubles
from nixops_proxmox.errors import ConfigError

Raw = Sequence[tuple[int, Mapping[str, object]]]  # line, and values by the file's own keys


@dataclass(frozen=True)
class Format:
    """`write`: the text in which the entry of that index has these values, by field; an empty one is not set."""

    read: Callable[[Path, str], Raw]
    write: Callable[[Path, str, int, Mapping[str, str]], str]


def format_of(path: Path) -> Format:
    found = _FORMATS.get(path.suffix.lower())
    if found is None:
        raise ConfigError(f"{path}: its format is not known", hint=f"its name must end in {', '.join(_FORMATS)}")
    return found


def read_entries(path: Path, text: str) -> list[PoolEntry]:
    """Raises ConfigError, with file and line, for what is no list of MACs."""
    entries = [parse_entry(path, line, values) for line, values in format_of(path).read(path, text)]
    refuse_doubles(path, entries)
    return entries


def write_entry(path: Path, text: str, index: int, values: Mapping[str, str]) -> str:
    """The text in which one entry has another user and date. What it says is read again, and compared."""
    before = read_entries(path, text)
    written = format_of(path).write(path, text, index, values)
    after = read_entries(path, written)
    rest = [one.mac for at, one in enumerate(after) if at != index]
    same = rest == [one.mac for at, one in enumerate(before) if at != index]
    if not same or (after[index].user, after[index].date) != (values["user"], values["date"]):
        raise ConfigError(
            f"{path}, line {before[index].line}: its user and date could not be written without changing more",
            hint="write the entry as the others are written",
        )
    return written


# --- TOML: an array of tables ---------------------------------------------------------------------------------------


def _read_toml(path: Path, text: str) -> Raw:
    _, tables = _toml_tables(path, text)
    headers = [number for number, line in enumerate(text.splitlines(), 1) if line.lstrip().startswith("[[")]
    lines = headers if len(headers) == len(tables) else [0] * len(tables)
    return [(line, table.unwrap()) for line, table in zip(lines, tables, strict=True)]


def _write_toml(path: Path, text: str, index: int, values: Mapping[str, str]) -> str:
    import tomlkit

    document, tables = _toml_tables(path, text)
    table = tables[index]
    keys = {field_of(key): key for key in table}
    for field, value in values.items():
        key = keys.get(field, field if keys.get("mac", "mac").islower() else field.capitalize())
        if value or key in table:
            table[key] = value
    return tomlkit.dumps(document)


def _toml_tables(path: Path, text: str) -> tuple[Any, list[Any]]:
    import tomlkit
    from tomlkit.exceptions import ParseError, TOMLKitError

    try:
        document = tomlkit.parse(text)
    except ParseError as error:
        raise ConfigError(f"{path}, line {error.line}: {error}") from error
    except TOMLKitError as error:
        raise ConfigError(f"{path}: {error}") from error
    lists = [value for value in document.values() if isinstance(value, list)]
    if len(lists) != 1 or not all(hasattr(one, "unwrap") and hasattr(one, "keys") for one in lists[0]):
        raise ConfigError(f"{path}: expected one array of tables", hint="begin each entry with a line [[machine]]")
    return document, list(lists[0])


# --- CSV: a line of names, then a line for each entry ---------------------------------------------------------------


def _read_csv(path: Path, text: str) -> Raw:
    heads, rows, _ = _csv_rows(path, text)
    return [(line, dict(zip(heads, cells, strict=False))) for line, cells in rows]


def _write_csv(path: Path, text: str, index: int, values: Mapping[str, str]) -> str:
    heads, rows, delimiter = _csv_rows(path, text)
    fields = [field_of(head) for head in heads]
    lacking = [field for field in values if field not in fields]
    if lacking:
        raise ConfigError(
            f"{path}, line 1: there is no column {' and '.join(lacking)}", hint="add it to the first line"
        )
    line, cells = rows[index]
    cells = [*cells, *[""] * (len(heads) - len(cells))]
    for field, value in values.items():
        cells[fields.index(field)] = value
    lines = text.splitlines(keepends=True)
    ending = lines[line - 1][len(lines[line - 1].rstrip("\r\n")) :]
    out = io.StringIO()
    csv.writer(out, delimiter=delimiter, lineterminator="").writerow(cells)
    lines[line - 1] = out.getvalue() + ending
    return "".join(lines)


def _csv_rows(path: Path, text: str) -> tuple[list[str], list[tuple[int, list[str]]], str]:
    """Names, rows with their lines, and what separates cells. Empty lines and those with # say nothing."""
    told = [(n, line) for n, line in enumerate(text.splitlines(), 1) if line.strip() and not line.startswith("#")]
    if not told:
        return [], [], ","
    delimiter = max(",;\t", key=told[0][1].count)
    rows = []
    for number, line in told:
        if line.count('"') % 2:
            raise ConfigError(f"{path}, line {number}: a quotation mark is not closed", hint="one line for each entry")
        rows.append((number, [cell.strip() for cell in next(csv.reader([line], delimiter=delimiter))]))
    heads = rows[0][1]
    if "mac" not in [field_of(head) for head in heads]:
        raise ConfigError(
            f"{path}, line {rows[0][0]}: there is no column MAC", hint="name the columns: Host,IPv4,IPv6,MAC,User,Date"
        )
    for number, cells in rows[1:]:
        if len(cells) > len(heads):
            raise ConfigError(f"{path}, line {number}: {len(cells)} cells, and {len(heads)} columns have names")
    return heads, rows[1:], delimiter


_FORMATS = {
    ".yml": Format(yaml_text.read, yaml_text.write),
    ".yaml": Format(yaml_text.read, yaml_text.write),
    ".toml": Format(_read_toml, _write_toml),
    ".csv": Format(_read_csv, _write_csv),
}
