"""What is known: phases, facts, machines, endpoints. Words only. Nothing here talks to anything."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from enum import StrEnum
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any, ClassVar, Self

from nixops_proxmox.errors import StateTooNew


class Phase(StrEnum):
    """A durable milestone in a machine's life: what is already true."""

    ABSENT = "absent"  # nothing of it exists
    RESERVED = "reserved"  # its VMID, UUID, MACs and host key are minted and recorded
    DEFINED = "defined"  # PVE has the VM and its disks
    INSTALLER = "installer"  # it runs the installer
    REACHABLE = "reachable"  # the installer let us in, proven to be this machine
    PARTITIONED = "partitioned"  # its disks are partitioned and mounted in the installer
    INSTALLED = "installed"  # the system is on its disks
    DRIFTED = "drifted"  # its hardware is not what the description says
    RUNNING = "running"  # it runs the installed system
    READY = "ready"  # reachable, proven, with the wanted system active
    STOPPED = "stopped"  # installed and powered off
    RESCUE = "rescue"  # the installer is booted beside an untouched system
    LOST = "lost"  # our record says it exists, the cluster says it does not


class Family(StrEnum):
    IPV4 = "ipv4"
    IPV6 = "ipv6"


class Reach(StrEnum):
    """From where an address can be reached."""

    PRIVATE = "private"
    PUBLIC = "public"


@dataclass(frozen=True)
class Address:
    """An address a guest has. `mac` is lower case and says on which NIC. `interface` is the guest's name for it."""

    ip: IPv4Address | IPv6Address
    reach: Reach
    interface: str = ""
    mac: str = ""

    @property
    def family(self) -> Family:
        return Family.IPV4 if self.ip.version == 4 else Family.IPV6


@dataclass(frozen=True)
class Endpoint:
    """An address and port of a guest's sshd and how to get there. `host` is a literal without brackets, or a name."""

    host: str
    port: int = 22
    user: str = "root"
    jump: str = ""  # an OpenSSH ProxyJump value, or empty: direct

    @property
    def is_ipv6(self) -> bool:
        return ":" in self.host

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """The inverse of `asdict`. Raises TypeError or ValueError for anything else."""
        endpoint = cls(**_checked(cls("-"), data))
        if not endpoint.host or not 0 < endpoint.port < 65536:
            raise ValueError(f"no endpoint: {endpoint.host!r}, port {endpoint.port}")
        return endpoint


_STORED_AS = {"installed_by": "method"}  # facts whose JSON has the name that earlier versions gave them
TEMPLATE_OF = "template"  # in `Facts.extra`: the VMID of the template of which it is a linked clone
FAILED_RESTORE = "failed restore"  # in `Facts.extra`: the UPID of the task, which left an empty VM
RESTORING = "restoring"  # in `Facts.extra`: the UUID that the VM has until a foreign backup is made ours


@dataclass(frozen=True)
class Facts:
    """What is known of one machine, never a secret. It can be written as JSON and read back. Empty means not known
    (yet)."""

    uuid: str = ""  # the machine's identity; its VM's SMBIOS UUID, and so the mark
    profile: str = ""  # the hypervisor it is on
    vmid: int = 0
    node: str = ""
    macs: tuple[str, ...] = ()  # lower case, in the order of the NICs
    host_key: str = ""  # public, "ssh-ed25519 AAAA…", minted by us before first boot
    next_host_key: str = ""  # public: the one that it gets, which is known beside the other until it is proven
    host_key_path: str = ""  # where its system has it; empty: at the usual place
    installer_keys: tuple[str, ...] = ()  # the installer's public host keys, read through the agent
    boot_id: str = ""  # the installer boot that the jobs below belong to
    claimed: int = -1  # the install round for which the disks were proven ours to write; -1: none yet
    volumes: Mapping[str, str] = field(default_factory=dict)  # by slot: PVE's volumes that `claimed` is about
    contents: Mapping[str, str] = field(default_factory=dict)  # by slot: what tells the disks that we partitioned
    sizes: Mapping[str, str] = field(default_factory=dict)  # by slot: bytes that the guest has taken into use
    nameless: bool = False  # its disks were made by somebody else, without serials: their volumes tell them
    serials_from: str = ""  # what the serials of its disks follow from; empty: from the UUID, as they did before
    round: int = 0  # counts installs: 0 is the first, each reinstall adds one
    asked: int = 0  # the description's install.generation that the last install answered
    passes: int = 0  # how often the partition script of this round asked for a reboot (exit status 100)
    partition_hash: str = ""  # SHA-256 of what laid the disks out: see kinds/machine/laid_out.py
    layout: str = ""  # its name, or "script". Empty: an earlier version laid them out, and only knew the digest
    # How: closure, configuration, image, template, or "recovered" where nothing tells. Empty: it is not installed.
    installed_by: str = ""
    system: str = ""  # the store path of the active system
    generation: int = 0  # its generation number in the guest's system profile
    addresses: tuple[Address, ...] = ()
    endpoint: Endpoint | None = None  # the last proven one
    task: str = ""  # the UPID of a PVE task that the current move started and that must be waited for
    errand: Mapping[str, str] = field(default_factory=dict)  # what a run was at beside the table, until it has ended
    applied: Mapping[str, str] = field(default_factory=dict)  # the VM's configuration as the last deploy left it
    # Something waits for a boot: "system", the "boot" that it was seen in, and the "changes". Empty: nothing does.
    awaits: Mapping[str, str] = field(default_factory=dict)
    # A probation that was begun: its "number" and "system". One that is over: its "verdict", "system" and "why".
    probation: Mapping[str, str] = field(default_factory=dict)
    # Of the encrypted disk: its "uuid", its "slots", the "recovery" key's digest and the "sink" that it went to, where
    # its "header" went, the "boot" at which it "opened" by itself last, "rotations", and of each machine that serves
    # tang to it ("tang NAME") the address and the thumbprint. "pending": spare slots of a rotation that has not ended.
    # "waits": the boot after which another must show that a TPM unseals the new key. "ssh": the first stage's port.
    # Of each encrypted data disk the same, with its slot before ("scsi1 uuid"): see kinds/machine/encrypted.py.
    luks: Mapping[str, str] = field(default_factory=dict)
    # The snapshot that a deploy took before its new system: its "name", and "of" which system. Empty: there is none.
    snapshot: Mapping[str, str] = field(default_factory=dict)
    hooks: Mapping[str, str] = field(default_factory=dict)  # which commands of `deploy.hooks` are due, by name
    sent: Mapping[str, str] = field(default_factory=dict)  # where it has the keys of `deployment.keys`, by name
    container: bool = False  # PVE has it as a container, and not as a VM
    # Of a container: the host key that PVE made for it, as a public key or with its fingerprint in the key's place.
    first_key: str = ""
    extra: Mapping[str, str] = field(default_factory=dict)  # what a door keeps beside (never secrets)

    @property
    def host_keys(self) -> tuple[str, ...]:
        """What its own system may show: two, while it gets another one."""
        return (self.host_key, self.next_host_key) if self.next_host_key else (self.host_key,)

    @property
    def shown_keys(self) -> tuple[str, ...]:
        """What runs in it shows one of these: its installer's, or its own system's."""
        return self.installer_keys or self.host_keys

    @property
    def serial_base(self) -> str:
        """What the serials of its disks follow from, with their slots."""
        return self.serials_from or self.uuid

    @property
    def serials_told(self) -> str:
        """The same for Nix. Empty: its disks may have none, and Nix knows them by no name."""
        return "" if self.nameless else self.serial_base

    def to_json(self) -> dict[str, Any]:
        """A JSON object. What is empty is left out."""
        said = {known.name: getattr(self, known.name) for known in fields(self)}
        return {
            _STORED_AS.get(name, name): _plain(value)
            for name, value in said.items()
            if value != getattr(_NOTHING, name)
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """The inverse of `to_json`. Raises StateTooNew for a field this version does not know."""
        names = {_STORED_AS.get(f.name, f.name): f.name for f in fields(cls)}
        unknown = set(data) - set(names)
        if unknown:
            raise StateTooNew(
                f"the state has facts that this version does not know: {', '.join(sorted(unknown))}",
                hint="upgrade nixops-proxmox to at least the version that wrote the state",
            )
        data = {names[name]: value for name, value in data.items()}
        special = ("macs", "installer_keys", "addresses", "endpoint")
        values = {**data, **_checked(cls(), {name: value for name, value in data.items() if name not in special})}
        for name in ("macs", "installer_keys"):
            if name in values:
                values[name] = tuple(_text(item) for item in _list(values[name]))
        if "addresses" in values:
            values["addresses"] = tuple(
                Address(
                    ip_address(_text(a["ip"])),
                    Reach(a["reach"]),
                    _text(a.get("interface", "")),
                    _text(a.get("mac", "")),
                )
                for a in _list(values["addresses"])
            )
        if values.get("endpoint") is not None:
            values["endpoint"] = Endpoint.from_json(values["endpoint"])
        return cls(**values)


_NOTHING = Facts()  # made once: a fleet writes its facts some fifteen times for each machine


def _plain(value: object) -> object:
    """As JSON has it. Not `asdict`, which copies all the way down."""
    match value:
        case Address():
            return {"ip": str(value.ip), "reach": value.reach.value, "interface": value.interface, "mac": value.mac}
        case Endpoint():
            return asdict(value)
        case Mapping():
            return dict(value)
        case tuple():
            return [_plain(one) for one in value]
        case _:
            return value


def recorded_slots(luks: Mapping[str, str]) -> dict[int, str]:
    """What each key slot of an encrypted disk is for, of the sentence in `Facts.luks`."""
    found = re.findall(r"(?:^|, )(\d+) ([^,]+)", luks.get("slots", ""))
    return {int(slot): use for slot, use in found}


def _checked(empty: object, data: Mapping[str, Any]) -> Mapping[str, Any]:
    """The data, if each value is of the kind that the field of `empty` has. Raises TypeError otherwise."""
    for name, value in data.items():
        known = getattr(empty, name, None)
        kind = Mapping if isinstance(known, Mapping) else type(known)
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            raise TypeError(f"{name} cannot be {value!r}")
        if isinstance(value, int) and abs(value) >= 1 << 53:
            raise ValueError(f"{name} is out of all bounds")
        if isinstance(value, Mapping):
            for item in (*value.keys(), *value.values()):
                _text(item)
    return data


def _list(value: object) -> Sequence[Any]:
    if not isinstance(value, list | tuple):
        raise TypeError(f"a list cannot be {value!r}")
    return value


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"text cannot be {value!r}")
    return value


@dataclass(frozen=True)
class Machine:
    """One machine of a deployment: where it stands and what is known of it."""

    kind: ClassVar[str] = "machine"

    deployment: str
    name: str
    phase: Phase = Phase.ABSENT
    facts: Facts = field(default_factory=Facts)

    def moved(self, phase: Phase, facts: Facts) -> "Machine":
        return replace(self, phase=phase, facts=facts)


@dataclass(frozen=True)
class Place:
    """A node, and a VMID that was free on its cluster a moment ago."""

    node: str
    vmid: int


@dataclass(frozen=True)
class Bearer:
    """A VM on the cluster that bears a machine's mark, notes and UUID alike."""

    vmid: int
    node: str
    uuid: str


class Power(StrEnum):
    RUNNING = "running"
    STOPPED = "stopped"


@dataclass(frozen=True)
class Vm:
    """What PVE has: one look at a VM that carries our mark."""

    vmid: int
    node: str
    uuid: str
    power: Power | None  # None: it was not asked
    config: Mapping[str, str]  # as PVE prints it, every value as text, pending changes merged in
    pending: tuple[str, ...] = ()  # keys that wait for a full stop and start
    lock: str = ""
    protected: bool = False
    active: Mapping[str, str] = field(default_factory=dict)  # without what is pending; empty: as `config`


@dataclass(frozen=True)
class VmRef:
    """A VM, told by its SMBIOS UUID."""

    uuid: str
    vmid: int
    node: str


@dataclass(frozen=True)
class Spot:
    """Where a volume was seen. `volume`: PVE's name of it there; `size` in bytes; `marked`: the drive says by its
    serial whose it is; it does not where somebody detached it."""

    vm: VmRef
    slot: str
    volume: str
    size: int
    marked: bool = True


OLD_COPY = "old copy "  # in `Facts.extra`, before a volume: which disk was moved away from it, and its size then


@dataclass(frozen=True)
class OldCopy:
    """What a disk leaves behind when it is moved to another storage. `size`: as PVE writes it."""

    volume: str
    slot: str
    size: str


def old_copies(facts: Facts) -> tuple[OldCopy, ...]:
    """The copies that disks left behind, or will when they are moved."""
    known = ((key.removeprefix(OLD_COPY), text) for key, text in facts.extra.items() if key.startswith(OLD_COPY))
    return tuple(OldCopy(volume, *text.partition(" ")[::2]) for volume, text in known)


@dataclass(frozen=True)
class Archive:
    """A backup. `ours`: its notes have the machine's UUID. Others are of a guest that had the same VMID, perhaps of
    this one: what is in them tells. `shared`: every node can read it."""

    volume: str
    node: str
    size: int  # bytes
    created: int  # epoch
    ours: bool
    shared: bool = False


@dataclass(frozen=True)
class Transfer:
    """What moving a VM to another node would be. `live`: it runs on meanwhile. `copied`: volumes that only its node
    has; `size`: their bytes. `blocked`: all that forbids it. `told`: what to know before."""

    source: str
    target: str
    live: bool
    copied: tuple[str, ...] = ()
    size: int = 0
    blocked: tuple[str, ...] = ()
    told: tuple[str, ...] = ()


class When(StrEnum):
    """When a change takes effect."""

    LIVE = "live"  # at once, while the machine runs
    RESTART = "at the next restart"
    PERMISSION = "only with your permission"
    NEVER = "never"  # it cannot be made in place


class Effect(StrEnum):
    """What a plan does to a machine, the worst first."""

    REFUSED = "refused"  # a change cannot be made, or not without permission: nothing is done
    RECREATE = "recreate"  # a new VM; the data on the old disks is lost
    REINSTALL = "reinstall"  # its disks are written again
    RESTART = "restart"
    CHANGE = "change"  # while it runs, or stands still
    NEW = "new"
    GO_ON = "go on"  # with what an earlier run began
    WAITS = "waits"  # nothing to do; something takes effect at the next restart
    NOTHING = "nothing"


@dataclass(frozen=True)
class Change:
    """One difference between the description and the VM. `restart`: it only takes effect by a full stop and start."""

    key: str  # PVE's configuration key: memory, scsi1, net0, …
    have: str
    want: str
    restart: bool = False
    forbidden: str = ""  # why it cannot be done in place, and what to do instead
    waiting: bool = False  # PVE has been told, and the running VM is not so yet
    missing: bool = False  # waiting, and a whole device: the running VM does not have it
    permission: str = ""  # why it needs the user's permission (`--allow-recreate`); empty: it needs none
    remedy: str = ""  # what can be done about `forbidden` or `word`
    reason: str = ""  # why it needs a restart
    outgrows: int = 0  # of a disk that is made larger: its bytes until now
    leaves: str = ""  # of a disk that is moved to another storage: its volume until now
    stops: bool = False  # PVE makes it only while the VM is stopped; `reason` says so

    @property
    def when(self) -> When:
        if self.forbidden:
            return When.NEVER
        if self.permission:
            return When.PERMISSION
        return When.RESTART if self.restart or self.waiting else When.LIVE


@dataclass(frozen=True)
class GuestDisk:
    """A disk as the guest sees it. `signatures`: what is on it ("gpt", "ext4", …). Empty means blank."""

    device: str  # /dev/sda
    size: int  # bytes
    serial: str = ""
    by_id: tuple[str, ...] = ()
    signatures: tuple[str, ...] = ()
    content: str = ""  # the UUID of its partition table, or of its file system: it stays when PVE moves the volume


@dataclass(frozen=True)
class GrownDisk:
    """How far the guest takes a larger disk into use. `hindrance`: why it does not reach its end. `strange`: nothing on
    it is known, so it is left alone."""

    slot: str
    rungs: tuple[str, ...] = ()  # what grows, from the partition to the file system
    size: int = 0  # bytes of the file system now, as statfs tells; 0: unknown
    hindrance: str = ""
    strange: str = ""


@dataclass(frozen=True)
class Completed:
    """A finished command. Its output is text, with undecodable bytes replaced."""

    status: int
    stdout: str = ""
    stderr: str = ""


@dataclass(frozen=True)
class Awaiting:
    """What only a boot takes up, a line each, and the boot that the guest runs since (its boot ID). `refused`: why
    NixOS does not switch to the system live."""

    boot: str = ""
    later: tuple[str, ...] = ()
    refused: tuple[str, ...] = ()

    @property
    def changes(self) -> tuple[str, ...]:
        return (*self.later, *self.refused)


class ProbationState(StrEnum):
    """Where a system stands that is taken into use on probation."""

    NONE = ""  # the guest knows of no probation since it booted
    SWITCHING = "switching"
    WAITING = "waiting"  # it is active, and waits for our word
    COMMITTING = "committing"  # we confirmed: it becomes the one that boots
    REVERTING = "reverting"
    CONFIRMED = "confirmed"
    REVERTED = "reverted"  # the system before is active again
    STUCK = "stuck"  # the guest tried to go back, and could not
    NEXT_BOOT = "next-boot"  # NixOS cannot switch to it: it is what boots next

    @property
    def is_over(self) -> bool:
        return self in (self.CONFIRMED, self.REVERTED, self.STUCK, self.NEXT_BOOT)


class ProbationVerdict(StrEnum):
    """What became of a system on probation."""

    CONFIRMED = "confirmed"
    BY_GUEST = "reverted by the guest"
    BY_US = "reverted by us"
    BY_BOOT = "reverted by a restart"
    STUCK = "stuck"


@dataclass(frozen=True)
class Probation:
    """What a guest says of its last probation. `status`, `back`: of the activation, and of the way back. `units`: those
    that failed, and had not before. `left`: seconds until it goes back by itself. `alive`: its supervisor is at work.
    `boot`: the guest's boot ID."""

    number: str = ""
    state: ProbationState = ProbationState.NONE
    system: str = ""
    previous: str = ""
    status: int = 0
    back: int = 0
    generation: int = 0
    units: tuple[str, ...] = ()
    why: str = ""
    boot: str = ""
    alive: bool = False
    refused: bool = False  # by us
    left: int = 0
    log: str = ""


@dataclass(frozen=True)
class OneBoot:
    """A system that the next boot takes, and only that one: its generation, and the boot loader. `why` it cannot be
    done; empty: it is done. `failed`: the units that are down now."""

    generation: int = 0
    loader: str = ""
    why: str = ""
    failed: tuple[str, ...] = ()


@dataclass(frozen=True)
class FileForDisk:
    """A file for a disk that is not booted yet. `path` is absolute; who owns it is said by numbers."""

    path: str
    content: bytes = field(repr=False)
    mode: int = 0o600
    uid: int = 0
    gid: int = 0


@dataclass(frozen=True)
class Booted:
    """What a guest says of its last boot: its boot ID, the system that was booted, and the units that are down."""

    boot: str = ""
    system: str = ""
    failed: tuple[str, ...] = ()


@dataclass(frozen=True)
class SystemContents:
    """What is in a system: the bytes of each of its store paths, and what only a boot takes up, by its name."""

    paths: Mapping[str, int]
    boots: Mapping[str, str] = field(default_factory=dict)


class JobPhase(StrEnum):
    ABSENT = "absent"  # no such job in this boot of the guest
    RUNNING = "running"
    DONE = "done"
    VANISHED = "vanished"  # it was started, it does not run, and it left no status


@dataclass(frozen=True)
class Job:
    """A detached job in a guest."""

    phase: JobPhase
    status: int = 0  # exit status, when DONE
    log_tail: str = ""


class Level(StrEnum):
    OK = "ok"
    WARNING = "warning"
    PROBLEM = "problem"


@dataclass(frozen=True)
class Finding:
    """What a doctor looked at (`subject`), what was found (`text`), and what mends it, perhaps in several lines."""

    level: Level
    subject: str
    text: str
    hint: str = ""
