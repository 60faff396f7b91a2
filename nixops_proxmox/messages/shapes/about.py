"""What is said of a key of the JSON that verbs print: in its JSON Schema, and in docs/json.md."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class About:
    """`among`: the values that it has, if there is a list of them."""

    text: str
    among: tuple[str, ...] = ()

    def __get_pydantic_json_schema__(self, core: Any, handler: Any) -> dict[str, Any]:
        found: dict[str, Any] = {**handler(core), "description": self.text}
        return {**found, "enum": list(self.among)} if self.among else found


def among(text: str, values: Iterable[str]) -> About:
    """About a text that is one of these."""
    return About(text, tuple(str(value) for value in values))
