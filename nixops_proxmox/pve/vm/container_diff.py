"""Pure: how a container differs from its description, and the calls that make it so; compared by meaning."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace

from nixops_proxmox.model import Change, Vm, When
from nixops_proxmox.pve.vm.container import ROOT, mount_options, net_options, new_mount, print_net, settings
from nixops_proxmox.pve.vm.correction import Correction, same_scalar
from nixops_proxmox.pve.vm.diff import ConfigUpdate, in_order
from nixops_proxmox.pve.vm.identity import Identity, find_mark, notes_with_mark, notes_without_mark
from nixops_proxmox.pve.vm.parking import volumes_in
from nixops_proxmox.pve.vm.requests import wanted_tags
from nixops_proxmox.pve.wire.calls import Value
from nixops_proxmox.pve.wire.properties import parse_properties, parse_size, print_properties, print_size, storage_of
from nixops_proxmox.spec import ContainerSpec, MachineSpec

# What PVE changes of a running container at once (pve-container, vmconfig_hotplug_pending); the rest waits for a start.
LIVE = frozenset(
    {"description", "onboot", "startup", "protection", "hostname", "cores", "tags"}
    | {"cpulimit", "cpuunits", "memory", "swap"}
)
_DEFAULTS = {"onboot": "0", "protection": "0", "memory": "512", "swap": "512", "cpulimit": "0", "features": "nesting=0"}
_KEPT = "{} cannot become smaller than its volume: PVE has no call for it"


def container_changes(vm: Vm, spec: MachineSpec, identity: Identity) -> tuple[Change, ...]:
    return tuple(_with_reason(step.change) for step in _all_steps(vm, spec, identity))


def container_update(vm: Vm, spec: MachineSpec, identity: Identity) -> ConfigUpdate:
    """What to send, without what cannot be done in place."""
    steps = [step for step in _all_steps(vm, spec, identity) if not step.change.forbidden]
    params: dict[str, Value] = {step.change.key: step.value for step in steps if step.value is not None}
    removed = [step.change.key for step in steps if step.delete]
    if removed:
        params["delete"] = ",".join(removed)
    return ConfigUpdate(tuple(in_order(params)), {step.change.key: step.size for step in steps if step.size})


def _with_reason(change: Change) -> Change:
    unexplained = change.when is When.RESTART and not change.reason
    return replace(change, reason="PVE sets it when the container starts") if unexplained else change


def _all_steps(vm: Vm, spec: MachineSpec, identity: Identity) -> Iterator[Correction]:
    """Changes that are still to be asked for, and those that PVE knows of and has not made yet."""
    differing = list(_steps(vm, spec, identity))
    yield from differing
    if not vm.pending or not vm.active:
        return
    known = {step.change.key for step in differing}
    for step in _steps(replace(vm, config=vm.active), spec, identity):
        key = step.change.key
        if key in vm.pending and key not in known:
            yield Correction(replace(step.change, want=vm.config.get(key, ""), restart=True, waiting=True))


def _steps(vm: Vm, spec: MachineSpec, identity: Identity) -> Iterator[Correction]:
    """What the description says to leave alone is left alone."""
    container = spec.container
    if container is None:  # what only the record tells has no description of the container
        return
    found = (
        *_setting_steps(vm, spec, container, identity),
        *_volume_steps(vm, container),
        *_net_steps(vm, spec, identity),
    )
    yield from (step for step in found if step.change.key not in spec.ignore)


def _setting_steps(vm: Vm, spec: MachineSpec, container: ContainerSpec, identity: Identity) -> Iterator[Correction]:
    wanted = {key: _wire(value) for key, value in settings(spec, container, identity).items()}
    if spec.description is None:
        wanted["description"] = _own_notes(vm, identity)
    if not spec.tags:
        wanted["tags"] = ";".join(sorted({*_tags(vm.config.get("tags", "")), *wanted_tags(spec)}))
    for key, want in wanted.items():
        have = vm.config.get(key, "")
        if not _same(key, have, want):
            value = _with_feature(have, want) if key == "features" else want
            yield Correction(Change(key, have, value, restart=key not in LIVE), value=value)


def _own_notes(vm: Vm, identity: Identity) -> str:
    notes = vm.config.get("description", "")
    if find_mark(notes) == identity.mark:
        return notes
    return notes_with_mark(notes_without_mark(notes), identity.mark)


def _same(key: str, have: str, want: str) -> bool:
    if key == "tags":
        return _tags(have) == _tags(want)
    if key == "description":
        return have.strip() == want.strip()
    if key == "features":
        return parse_properties(have).get("nesting", "0") == parse_properties(want).get("nesting", "0")
    return same_scalar(have or _DEFAULTS.get(key, ""), want)


def _with_feature(have: str, want: str) -> str:
    """Others that root has allowed it stay."""
    return print_properties({**parse_properties(have), **parse_properties(want)})


def _volume_steps(vm: Vm, container: ContainerSpec) -> Iterator[Correction]:
    yield from _sized(vm, ROOT, container.root.storage, container.root.size)
    for mount in container.mounts:
        have = vm.config.get(mount.slot, "")
        if not have:
            yield Correction(Change(mount.slot, "", new_mount(mount)), value=new_mount(mount))
            continue
        yield from _sized(vm, mount.slot, mount.storage, mount.size)
        has, wants = parse_properties(have, "volume"), mount_options(mount)
        if not all(_same_option(has.get(name, ""), value) for name, value in wants.items()):
            merged = print_properties({**has, **wants}, "volume")
            yield Correction(Change(mount.slot, have, merged, restart=True), value=merged)
    described = {mount.slot for mount in container.mounts}
    for key in sorted(vm.config):
        if (
            re.fullmatch(r"mp\d+", key)
            and key not in {*described, *volumes_in(vm.config)}
            and _is_volume(vm.config[key])
        ):
            yield Correction(Change(key, vm.config[key], "", restart=True), delete=True)


def _is_volume(value: str) -> bool:
    """A folder or a device of the node was put there by root."""
    return bool(storage_of(parse_properties(value, "volume").get("volume", "")))


def _sized(vm: Vm, key: str, storage: str, size: int) -> Iterator[Correction]:
    has = parse_properties(vm.config.get(key, ""), "volume")
    have, there = parse_size(has.get("size", "")), storage_of(has.get("volume", ""))
    if there and there != storage:
        text = f"{key} is on {there}, and we do not move volumes of containers to another storage"
        remedy = f"move it in PVE (`pct move-volume {vm.vmid} {key} {storage}`), or set `storage` back"
        yield Correction(Change(key, there, storage, forbidden=text, remedy=remedy))
    elif have is not None and have < size:
        yield Correction(Change(key, print_size(have), print_size(size)), size=print_size(size))
    elif have is not None and have > size:
        text = _KEPT.format(key)
        yield Correction(Change(key, print_size(have), print_size(size), forbidden=text, remedy="set `size` back"))


def _net_steps(vm: Vm, spec: MachineSpec, identity: Identity) -> Iterator[Correction]:
    described = set()
    for slot, wants in net_options(spec, identity):
        described.add(slot)
        have = vm.config.get(slot, "")
        has = parse_properties(have)
        if not all(_same_option(has.get(name, ""), value) for name, value in wants.items()):
            merged = print_net({**_without_addresses(has), **wants})
            yield Correction(Change(slot, have, merged), value=merged)
    for slot in sorted(vm.config) if spec.network else ():
        if re.fullmatch(r"net\d+", slot) and slot not in described:
            yield Correction(Change(slot, vm.config[slot], ""), delete=True)


def _without_addresses(has: Mapping[str, str]) -> dict[str, str]:
    """A gateway of before has no meaning with another address."""
    return {key: value for key, value in has.items() if key not in ("ip", "gw", "ip6", "gw6")}


def _same_option(have: str, want: str) -> bool:
    return have.lower() == want.lower() or (not have and want in ("0", "manual")) or same_scalar(have, want)


def _tags(text: str) -> frozenset[str]:
    return frozenset(tag.lower() for tag in re.split(r"[;, ]+", text) if tag)


def _wire(value: Value) -> str:
    return ("1" if value else "0") if isinstance(value, bool) else str(value)
