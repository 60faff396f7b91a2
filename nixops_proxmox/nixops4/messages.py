"""NixOps 4's resource protocol, version 0, as frozen models: what comes in is parsed, what goes out is built."""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from nixops_proxmox.errors import DeployError
from nixops_proxmox.texts import shown_lines

LONGEST = 64 << 20  # characters of one message; no description is longer


class BadMessage(DeployError):
    """A line that is not a request of the protocol."""

    exit_status = 2


class _Message(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)


class ExtantResource(_Message):
    type: str
    inputs: dict[str, Any] = Field(alias="inputProperties")
    outputs: dict[str, Any] | None = Field(None, alias="outputProperties")


class Create(_Message):
    type: str
    inputs: dict[str, Any] = Field(alias="inputProperties")
    is_stateful: bool = Field(alias="isStateful")


class Update(_Message):
    resource: ExtantResource
    inputs: dict[str, Any] = Field(alias="inputProperties")


class StateRead(_Message):
    resource: ExtantResource


class StateEvent(_Message):
    resource: ExtantResource
    event: str
    nixops_version: str = Field(alias="nixopsVersion")
    patch: list[dict[str, Any]]


Request = Create | Update | StateRead | StateEvent

REQUESTS: Mapping[str, type[Create] | type[Update] | type[StateRead] | type[StateEvent]] = {
    "createResourceRequest": Create,
    "updateResourceRequest": Update,
    "stateResourceReadRequest": StateRead,
    "stateResourceEvent": StateEvent,
}


def parse_request(line: str) -> Request:
    """One line, one request. Raises BadMessage that says what is wrong with it."""
    try:
        message = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise BadMessage(f"the request is not JSON: {error}") from error
    if not isinstance(message, dict) or len(message) != 1:
        raise BadMessage(f"a request is an object with one key, one of {', '.join(REQUESTS)}")
    ((kind, content),) = message.items()
    if kind not in REQUESTS:
        raise BadMessage(f"unknown request {kind!r}; known are {', '.join(REQUESTS)}")
    try:
        return REQUESTS[kind].model_validate(content)
    except ValidationError as error:
        wrong = "; ".join(f"{'.'.join(map(str, e['loc'])) or kind}: {e['msg']}" for e in error.errors())
        raise BadMessage(f"{kind}: {wrong}") from error


def created(outputs: Mapping[str, Any]) -> str:
    return _line("createResourceResponse", {"outputProperties": dict(outputs)})


def updated(outputs: Mapping[str, Any]) -> str:
    return _line("updateResourceResponse", {"outputProperties": dict(outputs)})


def state_read(state: Mapping[str, Any]) -> str:
    return _line("stateResourceReadResponse", {"state": dict(state)})


def state_changed() -> str:
    return _line("stateResourceEventResponse", {})


def failed(error: DeployError, spell: Callable[[str], str] = str) -> str:
    parts = [error.message, *([error.hint] if error.hint else [])]
    return _line("errorResponse", {"message": shown_lines(spell(part) for part in parts)})


def _line(kind: str, content: Mapping[str, Any]) -> str:
    return json.dumps({kind: content}, separators=(",", ":"), sort_keys=True) + "\n"


JsonPatch = Sequence[Mapping[str, Any]]
