"""Check a call's parameters against its table, with PVE's texts; what comes back has Python's types."""

import re
from collections.abc import Mapping
from typing import Any

from nixops_proxmox.lab.refusals import PARAMETERS, Refused
from nixops_proxmox.lab.schema import properties
from nixops_proxmox.lab.schema.formats import check_format
from nixops_proxmox.lab.schema.types import Grammar, Param, Table

UNKNOWN = "property is not defined in schema and the schema does not allow additional properties"
MISSING = "property is missing and it is not optional"
INTEGER = re.compile(r"^[+-]?\d+$")
NUMBER = re.compile(r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$")


def check(values: Mapping[str, Any], table: Table) -> dict[str, Any]:
    """`table` is of one release. Raises Refused 400 with an error for every bad parameter."""
    errors = check_object(values, table)
    if errors:
        raise Refused(400, PARAMETERS, errors)
    return {name: _convert(table[name], value) for name, value in values.items()}


def check_object(values: Mapping[str, Any], table: Table, prefix: str = "") -> dict[str, str]:
    errors: dict[str, str] = {}
    for name, value in values.items():
        param = table.get(name)
        wrong = UNKNOWN if param is None or param.alias else check_value(param, value, prefix + name)
        if wrong:
            errors[prefix + name] = wrong
        elif param is not None and param.requires and param.requires not in values:
            errors.setdefault(prefix + param.requires, f"missing property - '{name}' requires this property")
    for name, param in table.items():
        if not param.optional and not param.alias and name not in values:
            errors[prefix + name] = MISSING
    return errors


def check_value(param: Param, value: Any, path: str) -> str | None:
    if param.kind == "array":
        items = value if isinstance(value, list) else [value]
        return next((wrong for item in items if param.items and (wrong := check_value(param.items, item, path))), None)
    if isinstance(value, list | dict):
        return f"type check ('{param.kind}') failed - got {'ARRAY' if isinstance(value, list) else 'HASH'}"
    text = _wire(value)
    return _check_kind(param, text) or _check_format(param, text, path) or _check_limits(param, text)


def _wire(value: Any) -> str:
    if isinstance(value, bool):
        return "1" if value else "0"
    return str(value)


def _check_kind(param: Param, text: str) -> str | None:
    match param.kind:
        case "integer":
            good = INTEGER.match(text) is not None
        case "number":
            good = NUMBER.match(text) is not None
        case "boolean":
            good = text in ("0", "1")
        case _:
            good = True
    return None if good else f"type check ('{param.kind}') failed - got '{text}'"


def _check_format(param: Param, text: str, path: str) -> str | None:
    if param.format is None:
        return None
    if isinstance(param.format, str):
        wrong = check_format(param.format, text)
    else:
        wrong = check_properties(param.format, text, path)
    return f"invalid format - {wrong}" if wrong else None


def check_properties(grammar: Grammar, text: str, path: str) -> str | None:
    try:
        values = properties.parse(grammar, text)
    except properties.Malformed as error:
        return str(error)
    errors = check_object(values, grammar, prefix=f"{path}.")
    return "format error\n" + "".join(f"{name}: {wrong}\n" for name, wrong in errors.items()) if errors else None


def _check_limits(param: Param, text: str) -> str | None:
    if param.pattern is not None and not re.fullmatch(param.pattern, text):
        return "value does not match the regex pattern"
    if param.max_length is not None and len(text) > param.max_length:
        return f"value may only be {param.max_length} characters long"
    if param.min_length is not None and len(text) < param.min_length:
        return f"value must be at least {param.min_length} characters long"
    if param.minimum is not None and float(text) < param.minimum:
        return f"value must have a minimum value of {param.minimum:g}"
    if param.maximum is not None and float(text) > param.maximum:
        return f"value must have a maximum value of {param.maximum:.15g}"
    if param.enum and text not in param.enum:
        return f"value '{text}' does not have a value in the enumeration '{', '.join(param.enum)}'"
    return None


def _convert(param: Param, value: Any) -> Any:
    if param.kind == "array":
        return [_wire(item) for item in value] if isinstance(value, list) else [_wire(value)]
    text = _wire(value)
    match param.kind:
        case "integer":
            return int(text)
        case "boolean":
            return text == "1"
        case _:
            return text
