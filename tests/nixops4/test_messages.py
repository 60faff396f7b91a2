"""The protocol's messages, against the official schema where it is at hand."""

import io
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import ValidationError

from nixops_proxmox.nixops4 import messages
from nixops_proxmox.nixops4.provider import answer, serve
from nixops_proxmox.nixops4.resources import Resources
from tests.nixops4.dialogue import SCHEMA, check_message, create, extant, state_event, state_read, update


def dialogue(resources: Resources, *requests: Any) -> list[Any]:
    for request in requests:
        check_message("Request", request)
    out = io.StringIO()
    assert serve([json.dumps(request).encode() for request in requests], out, resources) == 0
    answers = [json.loads(line) for line in out.getvalue().splitlines()]
    for response in answers:
        check_message("Response", response)
    return answers


def error_of(resources: Resources, request: Any) -> str:
    (response,) = dialogue(resources, request)
    assert set(response) == {"errorResponse"}, response
    message: str = response["errorResponse"]["message"]
    return message


@pytest.fixture
def resources(tmp_path: Path) -> Resources:
    return Resources(state=str(tmp_path / "state.sqlite"), keys=tmp_path / "keys")


def test_messages_are_held_against_the_official_schema() -> None:
    if not SCHEMA.exists():
        pytest.skip("the protocol's schema is not here: ../shared/facts/nixops4-resource-schema-v0.json")
    with pytest.raises(ValidationError):
        check_message("Request", {"createResourceRequest": {"type": "vm", "inputProperties": {}}})
    with pytest.raises(ValidationError):
        check_message("Response", {"errorResponse": {"message": "no", "hint": "yes"}})


@pytest.mark.parametrize("kind", ["vm", "nixos"])
def test_a_stateless_request_is_refused_where_state_is_needed(resources: Resources, kind: str) -> None:
    assert "must be stateful" in error_of(resources, create(kind, {}, stateful=False))


@pytest.mark.parametrize(
    ("kind", "inputs"),
    [
        ("vm", {"name": "web", "proxmox": {}}),
        ("nixos", {"name": "web", "vm": "u", "system": f"/nix/store/{'a' * 32}-system"}),
        ("iso", {"path": "x.iso", "storage": "local"}),
        ("image", {"path": "x.qcow2", "storage": "local"}),
        ("state", {"name": "prod"}),
    ],
)
def test_unknown_inputs_are_refused_by_name(resources: Resources, kind: str, inputs: dict[str, Any]) -> None:
    message = error_of(resources, create(kind, {**inputs, "colour": "red", "smell": 1}))
    assert f"{kind}.colour: unknown input" in message
    assert f"{kind}.smell: unknown input" in message
    assert f"the inputs of {kind!r} are: " in message


def test_an_unknown_option_of_the_hardware_is_refused_with_the_nearest_one(resources: Resources) -> None:
    message = error_of(resources, create("vm", {"name": "web", "proxmox": {"memori": 512}}))
    assert "memori" in message
    assert "memory" in message


@pytest.mark.parametrize("deployment", ["../other", "", "a/b", ".hidden"])
def test_a_deployments_name_is_no_path(resources: Resources, deployment: str) -> None:
    assert "vm.deployment" in error_of(resources, create("vm", {"name": "a", "proxmox": {}, "deployment": deployment}))


@pytest.mark.parametrize("system", ["/etc", "relative", "/nix/store/../../etc", f"/nix/store/{'a' * 32}-x/../y"])
def test_a_system_is_a_store_path(resources: Resources, system: str) -> None:
    assert "nixos.system" in error_of(resources, create("nixos", {"name": "web", "vm": "u", "system": system}))


def test_an_unknown_type_is_refused_and_the_known_ones_are_named(resources: Resources) -> None:
    assert "known are vm, nixos, iso, image, volume, " in error_of(resources, create("castle", {}))


@pytest.mark.parametrize("kind", ["vm", "nixos", "iso", "castle"])
def test_only_a_state_keeps_state(resources: Resources, kind: str) -> None:
    message = error_of(resources, {"stateResourceReadRequest": {"resource": extant(kind, {"name": "prod"})}})
    assert f"a {kind!r} resource keeps no state" in message


@pytest.mark.parametrize("changed", [{"name": "b"}, {"deployment": "other"}])
def test_a_machine_keeps_its_name_and_its_deployment(resources: Resources, changed: dict[str, str]) -> None:
    before = {"name": "a", "proxmox": {}}
    assert f"vm.{next(iter(changed))}" in error_of(resources, update("vm", before, {}, before | changed))


def test_an_update_of_a_machine_that_the_record_does_not_have_makes_no_second_one(resources: Resources) -> None:
    inputs = {"name": "a", "proxmox": {}}
    message = error_of(resources, update("vm", inputs, {"uuid": "0f0e"}, inputs))
    assert "the machine with the UUID 0f0e" in message
    assert "NIXOPS_PROXMOX_STATE" in message


def test_a_system_needs_the_vm_that_it_is_for(resources: Resources) -> None:
    inputs = {"name": "web", "vm": "0f0e", "system": f"/nix/store/{'a' * 32}-system"}
    assert "there is no `vm` 'web' with the UUID 0f0e" in error_of(resources, create("nixos", inputs))


def test_a_defect_is_named_and_the_next_request_is_served(resources: Resources, capfd: Any) -> None:
    def defect(_namespace: str) -> None:
        raise KeyError("a defect")

    profiles = Path(resources.state).with_name("profiles.toml")
    profiles.touch(mode=0o600)
    profiles.write_text('[default]\nurl = "https://127.0.0.1:1"\ntoken = "a@pve!b=c"\nnamespace = "x"\n')
    broken = Resources(state=resources.state, profiles=profiles, enter=defect)
    first, second = dialogue(broken, create("iso", {"path": "x", "storage": "local"}), create("state", {"name": "p"}))
    assert "a defect in nixops4-resources-proxmox: KeyError: 'a defect'" in first["errorResponse"]["message"]
    assert second == {"createResourceResponse": {"outputProperties": {}}}
    assert "Traceback" in capfd.readouterr().err


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


@given(
    st.one_of(
        st.binary(min_size=1),
        st.text(min_size=1).map(str.encode),
        json_values.map(lambda value: json.dumps(value).encode()),
        st.builds(
            lambda kind, content: json.dumps({kind: content}).encode(),
            st.sampled_from([*messages.REQUESTS]),
            json_values,
        ),
    )
)
def test_a_malformed_line_is_answered_with_an_error(line: bytes) -> None:
    response = json.loads(answer(line, Resources(state="/nonexistent/never-opened")))
    assert set(response) == {"errorResponse"}
    assert "a defect" not in response["errorResponse"]["message"]
    check_message("Response", response)


def test_a_line_that_is_nested_without_end_is_an_error() -> None:
    response = json.loads(answer(b"[" * 100_000, Resources()))
    assert "not JSON" in response["errorResponse"]["message"]


@pytest.mark.parametrize(
    "request_", [create("vm", {}), update("vm", {}, {}, {}), state_event("prod", []), state_read("prod")]
)
def test_what_nixops_sends_is_understood(request_: Any) -> None:
    check_message("Request", request_)
    ((kind, _),) = request_.items()
    assert isinstance(messages.parse_request(json.dumps(request_)), messages.REQUESTS[kind])
