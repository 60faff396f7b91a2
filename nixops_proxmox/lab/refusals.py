"""How the lab says no: an exception that carries PVE's status and text, rendered in one place."""

from collections.abc import Mapping
from typing import NoReturn

PARAMETERS = "Parameter verification failed."


class Refused(Exception):
    """An answer that is not a success. `text` is PVE's; `plain` ones have no JSON body."""

    def __init__(
        self,
        status: int,
        text: str,
        errors: Mapping[str, str] | None = None,
        *,
        plain: bool = False,
        empty: bool = False,
    ) -> None:
        super().__init__(text)
        self.status = status
        self.text = text
        self.errors = dict(errors or {})
        self.plain = plain
        self.empty = empty


def die(text: str) -> NoReturn:
    """Perl's `die` in a handler: 500."""
    raise Refused(500, text)


def bad_parameter(name: str, text: str) -> Refused:
    return Refused(400, PARAMETERS, {name: text})


def no_permission(detail: str = "") -> Refused:
    return Refused(403, f"Permission check failed ({detail})" if detail else "Permission check failed")


def login_failed() -> Refused:
    """One text for every cause."""
    return Refused(401, "authentication failure")


def unauthorized(text: str) -> Refused:
    return Refused(401, text, empty=True)
