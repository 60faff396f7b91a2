"""The state resource on SQLite and PostgreSQL: what the patches made of it, and many writers at once."""

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from nixops_proxmox.errors import DeployError
from nixops_proxmox.nixops4.provider import answer
from nixops_proxmox.nixops4.resources import EMPTY_STATE, Resources, replay
from nixops_proxmox.state import open_state
from nixops_proxmox.state.documents import Document, Patch
from tests.nixops4.dialogue import check_message, create, state_event, state_read
from tests.pace import patience


@pytest.fixture
def resources(url: str) -> Resources:
    return Resources(state=url)


def ask(resources: Resources, request: Any) -> Any:
    check_message("Request", request)
    response = json.loads(answer(json.dumps(request).encode(), resources))
    check_message("Response", response)
    return response


def read(resources: Resources, document: str = "prod") -> Any:
    return ask(resources, state_read(document))["stateResourceReadResponse"]["state"]


def added(name: str, value: Any = None) -> dict[str, Any]:
    return {"op": "add", "path": f"/resources/{name}", "value": value or {"type": "vm"}}


def test_a_new_document_is_an_empty_state(resources: Resources) -> None:
    assert ask(resources, create("state", {"name": "prod"}, stateful=False)) == {
        "createResourceResponse": {"outputProperties": {}}
    }
    assert read(resources) == EMPTY_STATE


def test_state_is_what_the_patches_made_of_it(resources: Resources) -> None:
    replaced = {"op": "replace", "path": "/resources/web/type", "value": "nixos"}
    for patch in ([added("web")], [added("db"), replaced], [{"op": "remove", "path": "/resources/db"}]):
        assert ask(resources, state_event("prod", patch)) == {"stateResourceEventResponse": {}}
    assert read(resources)["resources"] == {"web": {"type": "nixos"}}
    assert read(resources, "other") == EMPTY_STATE, "documents are apart"


def test_a_patch_that_does_not_fit_changes_nothing(resources: Resources) -> None:
    ask(resources, state_event("prod", [added("web")]))
    patch = [added("db"), {"op": "test", "path": "/resources/web/type", "value": "castle"}]
    response = ask(resources, state_event("prod", patch))
    assert "operation 1 of the patch" in response["errorResponse"]["message"]
    assert read(resources)["resources"] == {"web": {"type": "vm"}}


@pytest.mark.parametrize(
    ("patch", "why"),
    [
        ({"op": "replace", "path": "", "value": ["gone"]}, "is not NixOps's state"),
        ({"op": "replace", "path": "", "value": {"resources": {}}}, "is not NixOps's state"),
        ({"op": "remove", "path": ""}, "can't remove the whole document"),
        ({"op": "remove", "path": "/_type"}, "is not NixOps's state"),
    ],
)
def test_a_patch_that_would_leave_no_state_is_refused(resources: Resources, patch: dict[str, Any], why: str) -> None:
    response = ask(resources, state_event("prod", [patch]))
    assert why in response["errorResponse"]["message"]
    assert read(resources) == EMPTY_STATE


def test_the_events_are_kept_with_who_told_them(resources: Resources) -> None:
    ask(resources, state_event("prod", [added("web")], event="create"))
    ask(resources, state_event("prod", [added("db")], event="update"))
    with open_state(resources.state) as state:
        events = Document(state, "prod").read()
    assert [(one.number, one.event, one.version) for one in events] == [(0, "create", "0.1.0"), (1, "update", "0.1.0")]
    assert replay([one.patch for one in events]) == read(resources)


def test_writers_at_the_same_moment_lose_nothing(resources: Resources) -> None:
    writers, events = 4, 5
    together = threading.Barrier(writers, timeout=patience(30))

    def write(writer: int) -> list[Any]:
        together.wait()
        return [ask(resources, state_event("prod", [added(f"w{writer}-{n}")])) for n in range(events)]

    with ThreadPoolExecutor(writers) as pool:
        answers = [one for told in pool.map(write, range(writers)) for one in told]
    assert answers == [{"stateResourceEventResponse": {}}] * (writers * events)
    assert set(read(resources)["resources"]) == {f"w{w}-{n}" for w in range(writers) for n in range(events)}


def test_of_two_writers_the_second_is_checked_against_what_the_first_has_made(url: str) -> None:
    """Both have read the same state, and both replace what only one of them can find."""
    met = threading.Barrier(2, timeout=patience(30))

    def check(patches: Any) -> None:
        if not met.broken and len(patches) == 2:  # both have looked, and neither has written (in PostgreSQL)
            with suppress(threading.BrokenBarrierError):
                met.wait(0.5)
        replay(patches)

    with open_state(url) as state:
        document = Document(state, "prod")
        document.append("create", "0.1.0", [added("web")], replay)

        def remove(_: int) -> str:
            patch: Patch = [{"op": "remove", "path": "/resources/web"}]
            try:
                document.append("destroy", "0.1.0", patch, check)
            except DeployError as error:
                return error.message
            return "removed"

        with ThreadPoolExecutor(2) as pool:
            told = sorted(pool.map(remove, range(2)))
        assert told[1] == "removed" and "does not fit: can't remove" in told[0], told
        assert len(document.read()) == 2


def test_a_state_that_cannot_be_opened_is_an_error_that_names_it(tmp_path: Path) -> None:
    file = tmp_path / "state.sqlite"
    file.write_bytes(b"no database at all, but long enough to be one" * 40)
    file.chmod(0o600)
    response = ask(Resources(state=str(file)), state_read("prod"))
    assert str(file) in response["errorResponse"]["message"]
