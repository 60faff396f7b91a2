"""Pure: how a VM differs from its description, and the calls that make it so; compared by meaning, never by text."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

from nixops_proxmox.model import Change, Vm, When
from nixops_proxmox.pve.api.answers import split_list
from nixops_proxmox.pve.vm.boot import boot_devices
from nixops_proxmox.pve.vm.correction import Correction, hotplugged, same_scalar
from nixops_proxmox.pve.vm.drives import drive_steps
from nixops_proxmox.pve.vm.identity import (
    Identity,
    find_mark,
    is_unfinished,
    notes_with_mark,
    notes_without_mark,
    uuid_of,
)
from nixops_proxmox.pve.vm.requests import (
    boot_order,
    controller,
    extra,
    nic_options,
    nics,
    settings,
    wanted_tags,
)
from nixops_proxmox.pve.wire.calls import Value
from nixops_proxmox.pve.wire.properties import (
    is_disk_slot,
    parse_flag,
    parse_nic,
    parse_properties,
    print_nic,
    print_properties,
)
from nixops_proxmox.spec import MachineSpec
from nixops_proxmox.spec.cloud_init import is_told

# §8.3 of PVE's behaviour: these act on a running VM at once; everything else waits for a full stop and start.
HOT = frozenset(
    {"name", "description", "onboot", "tags", "protection", "startup", "hotplug", "cpulimit", "cpuunits", "shares"}
)
DEFAULT_KEYS = {"cpu": "cputype", "agent": "enabled", "vga": "type", "machine": "type", "memory": "current"}


@dataclass(frozen=True)
class ConfigUpdate:
    """Calls to make, in this order: a config call for each of `calls` (with `delete`), then a resize for each disk,
    then a move for each disk that goes to another storage. `drops`: (key, volume) of old copies to delete, at the
    end."""

    calls: tuple[Mapping[str, Value], ...] = ()
    resize: Mapping[str, str] = field(default_factory=dict)
    moves: Mapping[str, str] = field(default_factory=dict)
    drops: tuple[tuple[str, str], ...] = ()


def changes(vm: Vm, spec: MachineSpec, identity: Identity) -> tuple[Change, ...]:
    return tuple(_with_reason(vm, step.change) for step in _all_steps(vm, spec, identity))


def _with_reason(vm: Vm, change: Change) -> Change:
    unexplained = change.when is When.RESTART and not change.reason
    return replace(change, reason=_why_restart(vm, change.key)) if unexplained else change


def update(vm: Vm, spec: MachineSpec, identity: Identity) -> ConfigUpdate:
    """What to send. Leaves out forbidden changes, but not those that need permission: the caller refuses them first."""
    steps = [step for step in _all_steps(vm, spec, identity) if not step.change.forbidden]
    params: dict[str, Value] = {step.change.key: step.value for step in steps if step.value is not None}
    removed = [step.change.key for step in steps if step.delete]
    if removed:
        params["delete"] = ",".join(removed)
    return ConfigUpdate(
        tuple(in_order(params)),
        {step.change.key: step.size for step in steps if step.size},
        {step.change.key: step.move for step in steps if step.move},
        tuple((step.change.key, step.drop) for step in steps if step.drop),
    )


def in_order(params: Mapping[str, Value]) -> Iterator[Mapping[str, Value]]:
    """PVE takes the keys of one call in no order, and derives some from others. What decides how the rest is taken
    (hotplug, an end of protection) goes first. The boot order, to which PVE itself adds and from which it takes
    devices, goes last, and with it the notes: they say that a clone is finished."""
    first = {key for key in params if key == "hotplug" or (key == "protection" and not parse_flag(str(params[key])))}
    last = {"boot", "description"} & params.keys() if "boot" in params else set[str]()
    for keys in (first, params.keys() - first - last, last):
        if keys:
            yield {key: value for key, value in params.items() if key in keys}


def _all_steps(vm: Vm, spec: MachineSpec, identity: Identity) -> Iterator[Correction]:
    """Changes that are still to be asked for, and those that PVE knows of and has not made yet."""
    differing = list(_steps(vm, spec, identity))
    if not vm.pending or not vm.active:
        yield from differing
        return
    by_key = {step.change.key: step for step in _steps(replace(vm, config=vm.active), spec, identity)}
    for step in differing:  # one that only takes back what was pending has its effect at once
        waits = step.change.restart and step.change.key in by_key
        yield replace(step, change=replace(step.change, restart=waits))
    known = {step.change.key for step in differing}
    for key in vm.pending:
        if key in by_key and key not in known:
            yield _waiting_step(vm, by_key[key])


def _waiting_step(vm: Vm, step: Correction) -> Correction:
    """Ask again for a device that can be plugged, in PVE's own words, because other words would make a second
    volume."""
    key, wanted = step.change.key, vm.config.get(step.change.key)
    change = replace(
        step.change,
        want=wanted or "",
        restart=True,
        forbidden="",
        waiting=True,
        missing=is_device(key) and key not in vm.active,
    )
    if step.change.restart or not is_device(key):
        return Correction(change)
    return Correction(change, value=wanted, delete=wanted is None)


def is_device(key: str) -> bool:
    return is_disk_slot(key) or (key.startswith("net") and key[3:].isdecimal()) or key in ("efidisk0", "tpmstate0")


def _steps(vm: Vm, spec: MachineSpec, identity: Identity) -> Iterator[Correction]:
    """What the description says to leave alone is left alone; what says whose the VM is, is not."""
    for step in _differences(vm, spec, identity):
        if step.change.key not in spec.ignore:
            yield step


def _differences(vm: Vm, spec: MachineSpec, identity: Identity) -> Iterator[Correction]:
    yield from _identity_steps(vm, spec, identity)
    yield from _setting_steps(vm, spec, identity)
    yield from drive_steps(vm, spec, identity)
    yield from _nic_steps(vm, spec, identity)


def _identity_steps(vm: Vm, spec: MachineSpec, identity: Identity) -> Iterator[Correction]:
    """A clone's first write: PVE gave it a UUID of its own, and it has the template's boot order."""
    if not is_unfinished(vm.config.get("description", "")):
        return
    have = vm.config.get("smbios1", "")
    if uuid_of(vm.config) != identity.uuid:
        want = print_properties({**parse_properties(have), "uuid": identity.uuid})
        yield Correction(Change("smbios1", have, want, restart=True), value=want)
    if spec.disks and spec.disks[0].slot not in boot_devices(vm.config)[:1]:
        want = boot_order(spec, installer=False)
        yield Correction(Change("boot", vm.config.get("boot", ""), want, restart=True), value=want)


def _setting_steps(vm: Vm, spec: MachineSpec, identity: Identity) -> Iterator[Correction]:
    wanted = {key: _wire(value) for key, value in (settings(spec, identity) | dict(extra(spec))).items()}
    wanted = {key: value for key, value in wanted.items() if not is_disk_slot(key)}
    if spec.description is None:
        wanted["description"] = _own_notes(vm, identity)
    if not spec.tags:
        wanted["tags"] = ";".join(sorted({*_tags(vm.config.get("tags", "")), *wanted_tags(spec)}))
    if spec.scsi_controller is None and controller(spec):
        wanted.pop("scsihw")  # our default for a new VM, not the user's wish for this one
    for key, want in wanted.items():
        have = vm.config.get(key, "")
        if not same_setting(key, have, want):
            restart, forbidden = _needs_restart(vm, key, have, want), _forbidden_setting(key, have, want)
            yield Correction(Change(key, have, want, restart, forbidden), value=want)


def _own_notes(vm: Vm, identity: Identity) -> str:
    notes = vm.config.get("description", "")
    if find_mark(notes) == identity.mark and not is_unfinished(notes):
        return notes
    return notes_with_mark(notes_without_mark(notes), identity.mark)


def _forbidden_setting(key: str, have: str, want: str) -> str:
    if key == "bios":
        return f"the installed system boots with {have or 'seabios'} and would not with {want}"
    return ""


def _needs_restart(vm: Vm, key: str, have: str, want: str) -> bool:
    if key == "memory":
        return not _plugs_memory(vm)
    if key == "balloon":  # how far it is blown up can be told a running guest; that there is such a device cannot
        return (have == "0") != (want == "0")
    return key not in HOT and not is_told(key)  # what cloud-init is told is in the configuration at once


def _plugs_memory(vm: Vm) -> bool:
    """PVE plugs DIMMs into NUMA nodes."""
    return "memory" in hotplugged(vm) and parse_flag(vm.config.get("numa", "0")) is True


def _why_restart(vm: Vm, key: str) -> str:
    plugged = hotplugged(vm)
    if key == "memory":
        return "memory hotplug is off" if "memory" not in plugged else "memory hotplug needs cpu.numa"
    if key.startswith("net") and "network" not in plugged:
        return "network hotplug is off"
    if is_disk_slot(key) and "disk" not in plugged:
        return "disk hotplug is off"
    if is_disk_slot(key) and not key.startswith(("scsi", "virtio")):
        return "PVE plugs only SCSI and VirtIO disks into a running VM"
    return "PVE sets it when the VM starts"


def same_setting(key: str, have: str, want: str) -> bool:
    """Do two spellings of a setting mean the same? A property string may have more than what is wanted."""
    if key == "tags":
        return _tags(have) == _tags(want)
    if key == "description":
        return have.strip() == want.strip()
    if not have:
        return is_default(key, want)
    if same_scalar(have, want):
        return True
    if is_told(key):
        return key.startswith("ipconfig") and parse_properties(have) == parse_properties(want)
    default_key = DEFAULT_KEYS.get(key, "")
    if not default_key and "=" not in want:
        return False
    has, wants = parse_properties(have, default_key), parse_properties(want, default_key)
    return all(name in has and same_scalar(has[name], value) for name, value in wants.items())


_DEFAULTS = {
    "bios": "seabios", "sockets": "1", "cores": "1", "numa": "0", "onboot": "0", "protection": "0", "memory": "512",
    "scsihw": "lsi", "cpulimit": "0", "arch": "x86_64", "hotplug": "network,disk,usb", "agent": "0",
}  # fmt: skip


def is_default(key: str, want: str) -> bool:
    """PVE leaves out what was never set; asking for its default then is no difference."""
    return key in _DEFAULTS and same_scalar(want, _DEFAULTS[key])


def _tags(text: str) -> frozenset[str]:
    return frozenset(tag.lower() for tag in split_list(text))


def _wire(value: Value) -> str:
    return ("1" if value else "0") if isinstance(value, bool) else str(value)


def _nic_steps(vm: Vm, spec: MachineSpec, identity: Identity) -> Iterator[Correction]:
    restart = "network" not in hotplugged(vm)
    wanted = nics(spec, identity)
    for index, nic in enumerate(spec.network):
        have = vm.config.get(nic.slot, "")
        if not have:
            yield Correction(Change(nic.slot, "", str(wanted[nic.slot]), restart), value=str(wanted[nic.slot]))
            continue
        has = parse_nic(have)
        wants = nic_options(nic, identity.macs[index] if index < len(identity.macs) else nic.mac or "")
        if not all(_same_nic_option(name, has.get(name, ""), value) for name, value in wants.items()):
            merged = print_nic({**has, **wants})
            yield Correction(Change(nic.slot, have, merged, restart), value=merged)
    if spec.network:
        described = {nic.slot for nic in spec.network}
        for slot in sorted(vm.config):
            if slot.startswith("net") and slot[3:].isdecimal() and slot not in described:
                yield Correction(Change(slot, vm.config[slot], "", restart), delete=True)


def _same_nic_option(name: str, have: str, want: str) -> bool:
    if name == "trunks":
        return frozenset(split_list(have)) == frozenset(split_list(want))
    if name == "firewall" and not have:
        return parse_flag(want) is False
    return have.lower() == want.lower() or (name not in ("bridge", "macaddr") and same_scalar(have, want))
