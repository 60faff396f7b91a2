"""NixOps 4's side of the protocol: requests built, messages held against the official schema, a provider spoken to."""

import io
import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import IO, Any

import jsonschema

from tests.pace import patience

SCHEMA = Path(__file__).parents[2] / "../shared/facts/nixops4-resource-schema-v0.json"
SCRIPT = Path(sys.executable).with_name("nixops4-resources-proxmox")
PATIENCE = 90.0  # seconds for any one answer

PATCH = {  # the schema leads to json.schemastore.org for this one: RFC 6902
    "type": "array",
    "items": {
        "type": "object",
        "required": ["op", "path"],
        "properties": {
            "op": {"enum": ["add", "remove", "replace", "move", "copy", "test"]},
            "path": {"type": "string"},
            "from": {"type": "string"},
        },
    },
}


# Requests.


def create(kind: str, inputs: Mapping[str, Any], *, stateful: bool = True) -> dict[str, Any]:
    return {"createResourceRequest": {"type": kind, "inputProperties": dict(inputs), "isStateful": stateful}}


def extant(kind: str, inputs: Mapping[str, Any], outputs: Mapping[str, Any] | None = None) -> dict[str, Any]:
    resource: dict[str, Any] = {"type": kind, "inputProperties": dict(inputs)}
    return resource if outputs is None else {**resource, "outputProperties": dict(outputs)}


def update(
    kind: str, before: Mapping[str, Any], outputs: Mapping[str, Any], inputs: Mapping[str, Any]
) -> dict[str, Any]:
    resource = extant(kind, before, outputs)
    return {"updateResourceRequest": {"resource": resource, "inputProperties": dict(inputs)}}


def state_event(document: str, patch: list[dict[str, Any]], event: str = "create") -> dict[str, Any]:
    resource = extant("state", {"name": document}, {})
    return {"stateResourceEvent": {"resource": resource, "event": event, "nixopsVersion": "0.1.0", "patch": patch}}


def state_read(document: str) -> dict[str, Any]:
    return {"stateResourceReadRequest": {"resource": extant("state", {"name": document}, {})}}


# The schema.


@cache
def validator(side: str) -> jsonschema.Draft4Validator | None:
    """For `Request` or `Response`; None: the schema is not here (a test says so)."""
    if not SCHEMA.exists():
        return None
    definitions = json.loads(SCHEMA.read_text())["definitions"] | {"Patch": PATCH}
    return jsonschema.Draft4Validator({"definitions": definitions, "$ref": f"#/definitions/{side}"})


def check_message(side: str, message: Any) -> None:
    assert isinstance(message, dict) and len(message) == 1, message
    checker = validator(side)
    if checker is not None:
        checker.validate(message)


# A provider as a process.


class Provider:
    """`nixops4-resources-proxmox`, as NixOps starts it: pipes, and no arguments."""

    def __init__(self, environment: Mapping[str, str], log: IO[bytes]) -> None:
        argv = [str(SCRIPT)] if SCRIPT.exists() else [sys.executable, "-m", "nixops_proxmox.nixops4.provider"]
        self.process = subprocess.Popen(
            argv,
            env=dict(environment),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            start_new_session=True,
        )

    def send(self, request: Any) -> None:
        """A message, or a line as it is."""
        if isinstance(request, bytes):
            line = request
        else:
            check_message("Request", request)
            line = json.dumps(request).encode()
        stdin = self.process.stdin
        assert stdin is not None
        stdin.write(line + b"\n")
        stdin.flush()

    def receive(self, seconds: float = PATIENCE) -> dict[str, Any]:
        stdout = self.process.stdout
        assert isinstance(stdout, io.BufferedReader)
        deadline = time.monotonic() + patience(seconds)
        line = b""
        while not line.endswith(b"\n"):
            ready, _, _ = select.select([stdout], [], [], max(0.0, deadline - time.monotonic()))
            assert ready, f"no answer within {patience(seconds)} s"
            chunk = os.read(stdout.fileno(), 1 << 16)
            assert chunk, f"the provider ended: {self.process.wait(patience(10))}"
            line += chunk
        assert line.count(b"\n") == 1, "more than one line for one request"
        message: dict[str, Any] = json.loads(line)
        check_message("Response", message)
        return message

    def ask(self, request: Any) -> dict[str, Any]:
        self.send(request)
        return self.receive()

    def ask_outputs(self, request: Any) -> dict[str, Any]:
        """The outputs of a creation or an update that must succeed."""
        answer = self.ask(request)
        ((kind, content),) = answer.items()
        assert kind in ("createResourceResponse", "updateResourceResponse"), answer
        outputs: dict[str, Any] = content["outputProperties"]
        return outputs

    def ask_error(self, request: Any) -> str:
        answer = self.ask(request)
        assert set(answer) == {"errorResponse"}, answer
        message: str = answer["errorResponse"]["message"]
        return message

    def close(self) -> int:
        """Standard input ends, as NixOps does it; the exit status."""
        if self.process.stdin is not None and not self.process.stdin.closed:
            self.process.stdin.close()
        return self.process.wait(PATIENCE)


@contextmanager
def start_provider(environment: Mapping[str, str], log: Path) -> Iterator[Provider]:
    with log.open("ab") as file:
        provider = Provider(environment, file)
        with provider.process:
            try:
                yield provider
            finally:
                if provider.process.poll() is None:
                    provider.process.kill()
