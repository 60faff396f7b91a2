"""Whatever a server, a file or a storage says, what comes of it is a value or one of our errors."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nixops_proxmox.errors import DeployError
from nixops_proxmox.pve.api.answers import agent_bytes
from nixops_proxmox.pve.api.client import PveClient
from nixops_proxmox.pve.vm.boot import boot_devices, boots_cd
from nixops_proxmox.pve.vm.diff import changes, update
from nixops_proxmox.pve.vm.identity import find_mark, identity_of, notes_with_mark
from nixops_proxmox.pve.wire.calls import Call
from nixops_proxmox.pve.wire.profiles import load_profile, parse_profile
from nixops_proxmox.pve.wire.properties import (
    gib,
    parse_drive,
    parse_nic,
    parse_properties,
    parse_size,
    print_drive,
    print_nic,
    print_properties,
    print_size,
)
from nixops_proxmox.pve.wire.refusals import Refusal, translate_refusal
from nixops_proxmox.pve.wire.servers import parse_server
from nixops_proxmox.pve.wire.upload import Upload, stored_name
from tests.pve.clients import Clients
from tests.pve.specs import full_spec, machine, params_of, vm_of
from tests.pve.stub import Reply, Stub

MANY = settings(max_examples=300, deadline=None)
FEW = settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=12,
)
KEYS = (
    "type node vmid status storage content maxdisk disk maxmem mem tags lock name key value pending delete digest upid"
    " exitstatus id user n t volid size release version pid exited exitcode signal out-data err-data result error desc"
    " hardware-address ip-addresses ip-address prefix truncated members iface ha managed uptime ticket shared template"
)
PLAUSIBLE = st.recursive(
    JSON
    | st.sampled_from(["qemu", "node", "storage", "running", "stopped", "online", "OK", "1", 0, 1, "100", -1, 1e300]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(KEYS.split()), inner, max_size=8),
    max_leaves=20,
)


class Saying:
    def __init__(self, data: Any) -> None:
        self.data = data

    def send(self, call: Call, upload: Upload | None = None) -> Any:
        assert call.path
        return self.data

    def close(self) -> None:
        """Nothing is open."""


CONFIG_KEYS = "boot net0 net1 scsi0 virtio1 scsi9 memory tags description efidisk0 hotplug cpu smbios1"
READS: list[Callable[[PveClient], Any]] = [
    lambda c: c.get_version(),
    lambda c: c.get_resources(0.0),
    lambda c: c.is_vmid_free(100),
    lambda c: c.get_permissions(),
    lambda c: c.list_bridges("n"),
    lambda c: c.list_pool_members("p"),
    lambda c: c.list_volumes("n", "s"),
    lambda c: c.get_config("n", 100),
    lambda c: c.get_pending("n", 100),
    lambda c: c.get_status("n", 100),
    lambda c: c.create_vm("n", {}),
    lambda c: c.change_config("n", 100, {}),
    lambda c: c.list_snapshots("n", 100),
    lambda c: c.back_up("n", 100, "s"),
    lambda c: c.open_terminal("n", 100),
    lambda c: c.open_display("n", 100),
    lambda c: c.open_spice("n", 100),
    lambda c: c.agent_ping("n", 100),
    lambda c: c.agent_exec("n", 100, ["/bin/true"]),
    lambda c: c.agent_exec_status("n", 100, 1),
    lambda c: c.agent_read_file("n", 100, "/x"),
    lambda c: c.agent_interfaces("n", 100),
    lambda c: c.agent_osinfo("n", 100),
    lambda c: c.get_task("n", "u"),
    lambda c: c.task_log("n", "u"),
    lambda c: c.list_tasks("n"),
]


@pytest.mark.parametrize("read", READS)
@given(data=PLAUSIBLE | st.lists(PLAUSIBLE, max_size=3))
@settings(max_examples=40, deadline=None)
def test_an_odd_answer_is_a_value_or_our_error(read: Callable[[PveClient], Any], data: Any) -> None:
    try:
        read(PveClient(Saying(data)))
    except DeployError as error:
        assert str(error)


@FEW
@given(
    body=st.binary(max_size=200) | JSON.map(lambda value: json.dumps(value).encode()),
    status=st.sampled_from([200, 200, 204, 301, 400, 401, 403, 404, 500, 501, 503, 595, 596, 599]),
    reason=st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=60),
)
def test_an_odd_body_over_the_wire_is_a_value_or_our_error(
    stub: Stub, clients: Clients, body: bytes, status: int, reason: str
) -> None:
    client = clients.made[0] if clients.made else clients(stub)
    stub.answer = lambda _: Reply(status, reason, b"" if status == 204 else body)
    for call in (Call("GET", "/x"), Call("POST", "/x")):
        try:
            client._sender.send(call)
        except DeployError as error:
            assert str(error)


@MANY
@given(
    st.integers(100, 999), st.text(max_size=80), st.dictionaries(st.text(max_size=8), st.text(max_size=20), max_size=3)
)
def test_any_refusal_is_our_error(status: int, text: str, errors: dict[str, str]) -> None:
    error = translate_refusal(Refusal(status, text, errors), Call("POST", "/nodes/{node}/qemu", {"node": "n"}))
    assert error.message
    assert error.exit_status in (2, 4, 5)


WORDS = st.text(
    st.characters(blacklist_characters=",=", blacklist_categories=("Cs", "Zs", "Cc", "Zl", "Zp")), min_size=1
)


@MANY
@given(st.dictionaries(WORDS, WORDS, max_size=6))
def test_property_strings_survive_printing_and_reading(properties: dict[str, str]) -> None:
    assert parse_properties(print_properties(properties)) == properties
    drive = {"file": "local:x", **{key: value for key, value in properties.items() if key != "file"}}
    assert parse_drive(print_drive(drive)) == drive


@MANY
@given(st.text(max_size=60))
def test_any_text_is_read_as_a_property_string(text: str) -> None:
    nic = parse_nic(text)
    assert parse_nic(print_nic(nic)) == parse_nic(print_nic(parse_nic(print_nic(nic))))
    parse_drive(text)
    size = parse_size(text)
    assert size is None or size >= 0
    find_mark(text)
    assert "/" not in stored_name(text)


@MANY
@given(st.integers(1, 1 << 50))
def test_sizes_survive(size: int) -> None:
    assert parse_size(print_size(size)) == size
    kib = math.ceil(size / 1024)
    assert parse_size(gib(size) + "G") == kib * 1024
    assert "e" not in gib(size).lower()


@MANY
@given(
    st.dictionaries(
        st.sampled_from(CONFIG_KEYS.split()),
        st.text(max_size=30) | st.sampled_from(["order=", "order=scsi0;ide2", "a:b,size=1G", "virtio=x,bridge=y", ""]),
    )
)
def test_any_configuration_can_be_compared(config: dict[str, str]) -> None:
    described = full_spec()
    vm = vm_of(described, config)
    found = changes(vm, described, identity_of(machine()))
    assert all(change.key for change in found)
    made = update(vm, described, identity_of(machine()))
    for slot in ("scsi0", "virtio1"):
        if vm.config.get(slot) and params_of(made).get(slot):
            assert parse_drive(str(params_of(made)[slot]))["file"] == parse_drive(vm.config[slot])["file"]
    boot_devices(config)
    boots_cd(config)


@MANY
@given(st.text(max_size=60))
def test_any_address_is_one_or_refused(text: str) -> None:
    try:
        endpoint = parse_server(text)
    except DeployError:
        return
    assert parse_server(endpoint.url) == endpoint


PROFILE_KEYS = (
    "endpoint endpoints token token_id token_secret token_command username password password_command otp totp_secret"
    " ca_file fingerprint vmids reserve parallel namespace proxy insecure url x"
)


@MANY
@given(st.dictionaries(st.sampled_from(PROFILE_KEYS.split()), JSON, max_size=6))
def test_any_profile_table_is_one_or_refused(table: dict[str, Any]) -> None:
    try:
        profile = parse_profile("x", table)
    except DeployError as error:
        assert str(error)
    else:
        assert profile.servers


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.binary(max_size=120) | st.text(alphabet='[]{}="\n.ab1_,', max_size=60).map(str.encode))
def test_any_profile_file_is_one_or_refused(tmp_path: Path, text: bytes) -> None:
    path = tmp_path / "profiles.toml"
    path.touch(mode=0o600)
    path.write_bytes(text)
    with pytest.raises(DeployError):
        load_profile("a", path=path, environ={})


@MANY
@given(st.text(max_size=100), st.text(max_size=40), st.text(max_size=40))
def test_any_names_survive_in_the_notes(text: str, deployment: str, name: str) -> None:
    from nixops_proxmox.pve.vm.identity import Mark

    mark = Mark(deployment, name, "1f0c2d3e-4a5b-4c6d-8e7f-001122334455")
    try:
        mark = Mark(deployment.encode().decode(), name.encode().decode(), mark.uuid)
    except UnicodeEncodeError:
        return  # lone surrogates are no text
    assert find_mark(notes_with_mark("", mark)) == mark


@MANY
@given(st.binary(max_size=100))
def test_bytes_come_out_of_the_agent_as_they_went_in(raw: bytes) -> None:
    assert agent_bytes(raw.decode("latin-1")) == raw
