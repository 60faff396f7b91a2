"""What others wrote, fit to be shown and kept: nothing in it moves a cursor, hides, or is a secret.

Names, notes, logs and messages come from guests, from the cluster and from Nix: from strangers. Every door passes what
it prints through `shown` or `shown_line`, and what is kept as text goes through `kept`. No line of theirs passes for
one of ours. JSON stays exact, except for secrets.
"""

import json
import logging
import re
import shlex
import unicodedata
from collections.abc import Iterable
from datetime import datetime
from typing import Any

from typing_extensions import override

from nixops_proxmox.secrecy import redact
from nixops_proxmox.spelling import stored

DNS_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
DNS_NAME = rf"(?=.{{1,253}}\Z){DNS_LABEL}(?:\.{DNS_LABEL})*"
_COLOUR = re.compile(r"\x1b\[[0-9;:]*m")  # harmless, and so usual that its escape would only disturb
_INVISIBLE = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})  # controls, format characters, lone surrogates, separators


def clean(text: str, *, block: bool = True) -> str:
    """Controls, bidirectional and zero-width characters and lone surrogates as visible escapes. Colours are dropped.
    `block`: line ends and tabs may stay."""
    if text.isprintable():
        return text
    text = _COLOUR.sub("", text)
    text = text.replace("\r\n", "\n") if block else text
    return "".join(_visible(character, block=block) for character in text)


def shown(text: str) -> str:
    """A text of one or several lines, to be printed. All but the first are indented below it: a stranger's line end
    begins no line that looks like ours."""
    first, *rest = clean(redact(text)).split("\n")
    indent = " " * (len(first) - len(first.lstrip(" ")) + 2)
    return "\n".join([first, *(f"{indent}{line}" if line else "" for line in rest)])


def shown_lines(lines: Iterable[str]) -> str:
    """Lines of ours, whatever is in each of them."""
    return "\n".join(shown(line) for line in lines)


def shown_line(text: str) -> str:
    """A name, a cell or anything else that has one line."""
    return clean(redact(text), block=False)


def kept(text: str, limit: int) -> str:
    """The same to be stored, at most `limit` characters. `recalled` reads it again."""
    return stored(clean(redact(text)))[:limit]


# Half a secret is none that we know, so a text is cut here and nowhere else: its secrets are blanked first.


def head(text: str, limit: int) -> str:
    """Its first characters. The last of them is an ellipsis where there is more."""
    text = redact(text)
    return text if len(text) <= limit else text[: limit - 1] + "…"


def tail(text: str, limit: int) -> str:
    """Its last characters."""
    return redact(text)[-limit:]


def tail_lines(lines: Iterable[str], count: int) -> list[str]:
    """The last of the lines. A secret may have several."""
    return redact("\n".join(lines)).split("\n")[-count:]


def after_cut(text: str) -> str:
    """A text that somebody else has cut off at its beginning, without its first line, which may begin with half a
    secret."""
    rest = re.split(r"[\r\n]+", text, maxsplit=1)
    return rest[1] if len(rest) > 1 else "".join(re.split(r"\s+", text, maxsplit=1)[1:])


def nix_string(text: str) -> str:
    """As a string of Nix's language, in which nothing is evaluated."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("${", "\\${")
    return f'"{escaped}"'


def json_text(value: Any) -> str:
    """A value as JSON, indented: exact except for secrets, because JSON has its own escapes for what hides."""
    told = json.dumps(_exact(value), indent=2, ensure_ascii=False)
    return "".join(c if c == "\n" or c.isprintable() else json.dumps(c)[1:-1] for c in told)


def _exact(value: Any) -> Any:
    match value:
        case str():
            return redact(value)
        case dict():
            return {key: _exact(inner) for key, inner in value.items()}
        case list() | tuple():
            return [_exact(inner) for inner in value]
    return value


def moment_text(seconds: float) -> str:
    """A moment (seconds since the epoch) in the user's time zone, or as a number if no calendar has such a day."""
    try:
        return datetime.fromtimestamp(seconds).astimezone().strftime("%Y-%m-%d %H:%M:%S")
    except (ValueError, OverflowError, OSError):
        return f"{seconds:g} s"


def script_marker(name: str, *parameters: str) -> str:
    """The first line of every script that we send into a guest: a comment that names the script and its parameters.
    A model of a guest needs to read nothing else. Raises ValueError for a parameter with a line end."""
    if any("\n" in parameter for parameter in parameters):
        raise ValueError(f"a parameter of the script {name} has a line end")
    return f"# nixops-proxmox: {shlex.join([name, *parameters])}\n"


class Formatter(logging.Formatter):
    """A formatter for the handlers of a door's log."""

    @override
    def format(self, record: logging.LogRecord) -> str:
        return shown(super().format(record))


def _visible(character: str, *, block: bool) -> str:
    if character.isprintable() or (block and character in "\n\t") or unicodedata.category(character) not in _INVISIBLE:
        return character
    number = ord(character)
    if 0xDC80 <= number <= 0xDCFF:  # a byte that was no text, as Python carries it in file names
        number -= 0xDC00
    width = 2 if number < 0x100 else 4 if number < 0x10000 else 8
    return f"\\{'xuU'[(2, 4, 8).index(width)]}{number:0{width}x}"


def is_machine_name(text: str) -> bool:
    """A name from outside (a VM's notes, an old record) is believed only if a description could have it."""
    return re.fullmatch(DNS_NAME, text) is not None


def shown_name(name: str) -> str:
    """A name from somebody's notes, for people: what no terminal should get is escaped."""
    return name if name.isprintable() and name.isascii() else ascii(name)
