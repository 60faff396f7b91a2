"""The protocol's messages, against the official schema where it is at hand."""

import io
import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nixops_proxmox.nixops4 import messages
from nixops_proxmox.nixops4.provider import serve
from nixops_proxmox.nixops4.resources import Resources

SCHEMA = Path(__file__).parents[2] / "../shared/facts/nixops4-resource-schema-v0.json"


def check_schema(message: Any) -> None:
    if not SCHEMA.exists():
        pytest.skip("the protocol's schema is not here: ../shared/facts/nixops4-resource-schema-v0.json")
    schema = json.loads(SCHEMA.read_text())
    schema["definitions"]["Patch"] = {"type": "array", "items": {"type": "object", "required": ["op", "path"]}}
    jsonschema.Draft4Validator(schema).validate(message)


def dialogue(resources: Resources, *requests: Any) -> list[Any]:
    lines = "".join((r if isinstance(r, str) else json.dumps(r)) + "\n" for r in requests)
    out = io.StringIO()
    assert serve(io.StringIO(lines), out, resources) == 0
    return [json.loads(line) for line in out.getvalue().splitlines()]


def create(kind: str, inputs: Any, *, stateful: bool = True) -> Any:
    return {"createResourceRequest": {"type": kind, "inputProperties": inputs, "isStateful": stateful}}


STATE = {"type": "state", "inputProperties": {"name": "prod"}}


def event(patch: Any) -> Any:
    return {"stateResourceEvent": {"resource": STATE, "event": "create", "nixopsVersion": "4.0", "patch": patch}}


READ = {"stateResourceReadRequest": {"resource": STATE}}


@pytest.fixture
def resources(tmp_path: Path) -> Resources:
    return Resources(state=str(tmp_path / "state.sqlite"), keys=tmp_path / "keys")


def test_state_is_what_the_patches_made_of_it(resources: Resources) -> None:
    added = {"op": "add", "path": "/resources/web", "value": {"type": "vm", "inputProperties": {}}}
    requests = [create("state", {"name": "prod"}, stateful=False), READ, event([added]), READ]
    answers = dialogue(resources, *requests)
    for message in (*requests, *answers):
        check_schema(message)
    assert answers[1]["stateResourceReadResponse"]["state"] == {
        "_type": "nixopsState",
        "resources": {},
        "deployments": {},
    }
    assert answers[3]["stateResourceReadResponse"]["state"]["resources"] == {"web": added["value"]}


def test_a_patch_that_does_not_fit_changes_nothing(resources: Resources) -> None:
    answers = dialogue(resources, event([{"op": "remove", "path": "/resources/web"}]), READ)
    assert "nothing at /resources/web" in answers[0]["errorResponse"]["message"]
    assert answers[1]["stateResourceReadResponse"]["state"]["resources"] == {}


@pytest.mark.parametrize("kind", ["vm", "nixos"])
def test_a_stateless_request_is_refused_where_state_is_needed(resources: Resources, kind: str) -> None:
    (answer,) = dialogue(resources, create(kind, {}, stateful=False))
    assert "must be stateful" in answer["errorResponse"]["message"]
    check_schema(answer)


def test_unknown_inputs_are_refused_by_name(resources: Resources) -> None:
    (answer,) = dialogue(resources, create("vm", {"name": "web", "proxmox": {}, "colour": "red"}))
    assert "vm.colour: unknown input" in answer["errorResponse"]["message"]


def test_an_unknown_type_is_refused_and_the_known_ones_are_named(resources: Resources) -> None:
    (answer,) = dialogue(resources, create("castle", {}))
    assert "known are vm, nixos, iso, image, state" in answer["errorResponse"]["message"]


def test_a_machine_cannot_change_its_name(resources: Resources) -> None:
    extant = {"type": "vm", "inputProperties": {"name": "a", "proxmox": {}}, "outputProperties": {}}
    request = {"updateResourceRequest": {"resource": extant, "inputProperties": {"name": "b", "proxmox": {}}}}
    (answer,) = dialogue(resources, request)
    assert "vm.name" in answer["errorResponse"]["message"]


@pytest.mark.parametrize("line", ["", "   ", "\t"])
def test_blank_lines_are_nothing(resources: Resources, line: str) -> None:
    assert dialogue(resources, line) == []


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


@given(
    st.one_of(
        st.text(min_size=1).filter(lambda text: text.strip() and "\n" not in text and "\r" not in text),
        json_values.map(json.dumps),
        st.builds(
            lambda kind, content: json.dumps({kind: content}), st.sampled_from([*messages.REQUESTS]), json_values
        ),
    )
)
def test_a_malformed_line_is_answered_with_an_error(line: str) -> None:
    (answer,) = [json.loads(text) for text in [_answer(line)]]
    assert set(answer) == {"errorResponse"}


def _answer(line: str) -> str:
    from nixops_proxmox.nixops4.provider import answer

    return answer(line, Resources(state="/nonexistent/never-opened"))
