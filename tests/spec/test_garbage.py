"""Whatever a description says, it is parsed or refused in our words."""

import copy
import json
import re
from collections.abc import Iterator
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nixops_proxmox.errors import SpecError
from nixops_proxmox.spec import MachineSpec, NetworkSpec, parse_machine, parse_network
from tests.spec.build import options
from tests.spec.test_legacy import ORIGINAL

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=12)
    | st.sampled_from(
        ["dhcp", "auto", "10.0.0.2/24", "fd00::2/64", "scsi0", "32G", "host", "a=b", "\x00", "\ud800", "x" * 9000]
    )
    | st.binary(max_size=3)
)
JSON = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
FULL = options(
    cpu={"type": "host", "cores": 2, "limit": 1.5},
    memory=1024,
    balloon=512,
    efi={"storage": "local"},
    tpm={"storage": "local"},
    tags=["a", "b"],
    extra={"acpi": 1},
    install={"from": "iso", "iso": "local:iso/x.iso", "partition": "true"},
    endpoint={"families": ["ipv6"], "allow": ["10.0.0.0/8"], "jump": "gate"},
    ssh={"options": {"LogLevel": "ERROR"}, "authorizedKeys": ["ssh-ed25519 AAAA me"]},
    disks={"scsi0": {"storage": "local-lvm", "size": "8G", "serial": "root"}},
    network=[{"bridge": "vmbr0", "ipv4": {"address": "10.0.0.2/24", "gateway": "10.0.0.1"}, "trunks": [1, "5-7"]}],
)
START = [FULL, ORIGINAL]
many = settings(max_examples=500, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where something else could stand."""
    yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield from places(inner, (*path, key))


def put(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    if not path:
        return new
    changed = copy.deepcopy(value)
    inner = changed
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = new
    return changed


@st.composite
def broken(draw: st.DrawFn) -> Any:
    """A good description with something else at one place, or one attribute too many there."""
    start = draw(st.sampled_from(START))
    path = draw(st.sampled_from(list(places(start))))
    new = draw(JSON)
    return put(start, (*path, draw(st.text(max_size=8))) if draw(st.booleans()) and _is_set(start, path) else path, new)


def _is_set(value: Any, path: tuple[Any, ...]) -> bool:
    for key in path:
        value = value[key]
    return isinstance(value, dict)


def check(parse: Any) -> None:
    """It is parsed, or refused in whole lines that begin with a path."""
    try:
        parse()
    except SpecError as error:
        assert str(error)
        for line in str(error).splitlines():
            assert re.match(r'[\w"-].*: \S', line, re.ASCII), line
            assert len(line) < 20_000
            line.encode()


@many
@given(broken())
def test_anything_at_any_place_is_parsed_or_refused(data: Any) -> None:
    check(lambda: parse_machine("web", {"proxmox": data}))


@many
@given(JSON)
def test_anything_for_a_machine_is_parsed_or_refused(data: Any) -> None:
    check(lambda: parse_network("demo", {"machines": {"web": data, "app": {"proxmox": data}}}))


@settings(max_examples=200, deadline=None)
@given(st.dictionaries(st.text(), JSON, max_size=3))
def test_anything_for_a_network_is_parsed_or_refused(data: Any) -> None:
    check(lambda: parse_network("demo", data))


def test_a_maze_is_refused() -> None:
    maze: Any = []
    for _ in range(5000):
        maze = [maze]
    check(lambda: parse_machine("web", {"proxmox": {"tags": maze}}))


SPECS = st.fixed_dictionaries(
    {
        "disks": st.lists(
            st.fixed_dictionaries(
                {"storage": st.sampled_from(["local-lvm", "zfs"]), "size": st.integers(1, 4096) | st.just("512M")},
                optional={"bus": st.sampled_from(["scsi", "virtio", "sata"]), "discard": st.booleans()},
            ),
            min_size=1,
            max_size=4,
        ),
        "network": st.lists(
            st.fixed_dictionaries(
                {"bridge": st.sampled_from(["vmbr0", "vmbr1"])},
                optional={
                    "tag": st.integers(1, 4094),
                    "ipv4": st.sampled_from(["dhcp", "none", "10.0.0.2/24"]),
                    "ipv6": st.sampled_from(["auto", "dhcp", "fd00::2/64"]),
                },
            ),
            min_size=1,
            max_size=3,
        ),
    },
    optional={
        "memory": st.integers(16, 1 << 20),
        "cpu": st.fixed_dictionaries({}, optional={"cores": st.integers(1, 64), "limit": st.floats(0, 128)}),
        "tags": st.lists(st.sampled_from(["a", "b", "c"]), unique=True),
        "efi": st.just({"storage": "local"}),
        "install": st.fixed_dictionaries({}, optional={"generation": st.integers(0, 9)}),
        "endpoint": st.just({"allow": ["10.0.0.0/8", "fd00::/8"]}),
        "extra": st.just({"acpi": True, "ostype": "l26"}),
    },
)


@settings(max_examples=200, deadline=None)
@given(SPECS)
def test_what_is_parsed_survives_json(data: dict[str, Any]) -> None:
    spec = parse_machine("web", {"proxmox": data})
    text = spec.model_dump_json(by_alias=True)
    assert MachineSpec.model_validate_json(text, strict=True) == spec
    assert json.loads(text)["disks"][0]["size"] % (1 << 20) == 0


@settings(max_examples=100, deadline=None)
@given(st.lists(SPECS, max_size=4))
def test_a_network_keeps_its_machines_in_order(machines: list[dict[str, Any]]) -> None:
    names = [f"m{number}" for number in range(len(machines))]
    entries = {name: {"proxmox": data} for name, data in zip(names, machines, strict=True)}
    network = parse_network("demo", {"machines": entries})
    assert [machine.name for machine in network.machines] == names
    assert NetworkSpec.model_validate_json(network.model_dump_json(by_alias=True), strict=True) == network
