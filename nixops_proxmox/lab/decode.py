"""From bytes on the wire to parameters: forms with PVE's own splitting, JSON bodies, query strings."""

import json
from collections.abc import Iterable
from typing import Any
from urllib.parse import unquote_plus

from nixops_proxmox.lab.refusals import Refused
from nixops_proxmox.lab.release import Release


def decode_form(text: str, release: Release) -> dict[str, Any]:
    """Pairs end at `&` and `;`; a repeated key is an array (NUL-joined in 7.4); what follows a second `=` is lost."""
    found: dict[str, Any] = {}
    for pair in text.replace(";", "&").split("&"):
        if not pair:
            continue
        key, _, rest = pair.partition("=")
        name, value = unquote_plus(key), unquote_plus(rest.partition("=")[0])
        if name not in found:
            found[name] = value
        elif not release.since(8):
            found[name] = f"{found[name]}\0{value}"
        elif isinstance(found[name], list):
            found[name].append(value)
        else:
            found[name] = [found[name], value]
    found.pop("_dc", None)
    return found


def decode_body(body: bytes, content_type: str, release: Release) -> dict[str, Any]:
    kind = content_type.split(";")[0].strip().lower()
    if kind in ("", "application/x-www-form-urlencoded"):
        return decode_form(body.decode("utf-8", "replace"), release)
    if kind == "application/json":
        return _decode_json(body, release)
    raise Refused(506, f"upload 'Content-Type '{content_type}' not implemented", plain=True)


def _decode_json(body: bytes, release: Release) -> dict[str, Any]:
    try:
        values = json.loads(body)
    except ValueError as error:
        offset = getattr(error, "pos", 0)
        rest = body.decode("utf-8", "replace")[offset:] or "(end of string)"
        where = f'at character offset {offset} (before "{rest[:20]}")'
        raise Refused(
            500,
            f"malformed JSON string, neither tag, array, object, number, string or atom, {where} "
            "at /usr/share/perl5/PVE/APIServer/AnyEvent.pm line 917.",
            plain=True,
        ) from error
    if not isinstance(values, dict):
        raise Refused(500, "Not a HASH reference", plain=True)
    if release.since(8):
        return {key: value for key, value in values.items() if value is not None}
    return {key: _flat(value) for key, value in values.items() if value is not None}


def _flat(value: Any) -> Any:
    """7.4 makes a form of it on the way to the daemon: lists lose their shape."""
    if isinstance(value, bool):
        return "1" if value else "0"
    if isinstance(value, list):
        return "\0".join(map(str, value))
    return str(value)


def join_lists(values: dict[str, Any], lists: Iterable[str]) -> dict[str, Any]:
    """Arrays given for `-list` strings."""
    return {
        key: ",".join(map(str, value)) if key in lists and isinstance(value, list) else value
        for key, value in values.items()
    }
