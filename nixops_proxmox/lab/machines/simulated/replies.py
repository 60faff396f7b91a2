"""What a scripted guest replies to each script and command of the tool.

The first line of each script is a comment, the marker: `# nixops-proxmox: NAME PARAMETER...`, quoted as for a shell.
A reply depends on this line and on standard input alone; the rest of the script is not read. docs/lab-simulated.md
lists the markers.
"""

import base64
import binascii
import json
import shlex
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from nixops_proxmox.lab.machines.simulated import luks, tang
from nixops_proxmox.lab.machines.simulated.body import Output
from nixops_proxmox.lab.machines.simulated.layouts import GROW
from nixops_proxmox.lab.machines.simulated.sshd import HOST_KEY

if TYPE_CHECKING:
    from nixops_proxmox.lab.machines.simulated.scripted import ScriptedGuest

MARK = "# nixops-proxmox: "
AUTHORIZED_KEYS = "/root/.ssh/authorized_keys"
JOB = "nixops-proxmox-job"
DISKS = "nixops-proxmox-disks"
BOOTED = 1_700_000_000  # when each scripted guest says that it was booted
ANY = "*"  # in a command: whatever word is there


@dataclass(frozen=True)
class ScriptCall:
    """The parameters of a marker (or the words of a command), and what comes by standard input."""

    words: Sequence[str]
    given: bytes = b""


ScriptHandler = Callable[["ScriptedGuest", ScriptCall], Awaitable[Output]]


def find_marker(script: str) -> tuple[str, ...]:
    """Name and parameters of the script's marker; empty if it has none."""
    line = script.partition("\n")[0]
    return tuple(shlex.split(line.removeprefix(MARK))) if line.startswith(MARK) else ()


def find_reply(script: str) -> tuple[ScriptHandler, Sequence[str]] | None:
    """Who replies to a script or to a command of one line, and with which words; None for all others."""
    if marker := find_marker(script):
        known = SCRIPTS.get(marker[0])
        return None if known is None else (known, marker[1:])
    argv = _words(script)
    for words, handler in COMMANDS.items():
        if len(words) == len(argv) and all(word in (ANY, given) for word, given in zip(words, argv, strict=True)):
            return handler, argv
    return None


def takes_input(script: str) -> bool:
    """A command that does not read its input ends without waiting for the end of it."""
    found = find_reply(script)
    return found is not None and found[0] in (run_once, job_start, deliver, take_keys, luks_test)


def _words(command: str) -> tuple[str, ...]:
    try:
        return () if "\n" in command.strip() else tuple(shlex.split(command))
    except ValueError:
        return ()


def said(text: str, status: int = 0) -> Output:
    return Output(status, text.encode())


def failed(text: str) -> Output:
    return Output(1, b"", f"{text}\n".encode())


async def nothing(guest: "ScriptedGuest", call: ScriptCall) -> Output:
    del guest, call
    return said("")


# Through the agent


async def run_once(guest: "ScriptedGuest", call: ScriptCall) -> Output:
    """A script in base64 on stdin, once per folder (the parameter)."""
    [folder] = call.words
    if folder not in guest.once:
        try:
            inner = base64.b64decode(call.given, validate=False).decode()
        except (binascii.Error, UnicodeDecodeError):
            return failed("base64: invalid input")
        guest.once[folder] = await guest.run(inner, b"")
    return guest.once[folder]


async def is_booting(guest: "ScriptedGuest", call: ScriptCall) -> Output:
    del guest, call
    return said("running\n")


async def enter(guest: "ScriptedGuest", call: ScriptCall) -> Output:
    """The parameters are keys, which the installer lets in."""
    about = guest.about
    if about.installer:
        known = guest.files.get(AUTHORIZED_KEYS, b"").decode().splitlines()
        wanted = [key for key in call.words if key not in known]
        guest.files[AUTHORIZED_KEYS] = "".join(f"{key}\n" for key in [*known, *wanted]).encode()
    kind = "installer" if about.installer else "other"
    system = f"system {about.os_release.get('PRETTY_NAME', 'unknown')}\n"
    public = _host_key(guest)
    key = f"host-key {' '.join(public[:2])}\n" if public else ""
    told = f"kind {kind}\nboot-id {about.boot_id}\n{system}uuid {about.uuid.lower()}\n{key}end\n"
    return said(f"nixops-proxmox-installer 1\n{told}")


def _host_key(guest: "ScriptedGuest") -> Sequence[str]:
    public = (guest.find_file(f"{HOST_KEY}.pub") or b"").decode().split()
    return public if len(public) > 1 else ()


async def introduce(guest: "ScriptedGuest", call: ScriptCall) -> Output:
    """A copied system gets files and keys; sshd takes its host key from among them."""
    wanted = json.loads(call.words[0])
    for path, text in wanted["files"].items():
        guest.keep(path, text.encode())
    if "root" in wanted["users"]:
        guest.keep(AUTHORIZED_KEYS, "".join(f"{key}\n" for key in wanted["keys"]).encode())
    guest.tell("sshd")
    return said("nixops-proxmox-introduced 1\n")


async def rekey_put(guest: "ScriptedGuest", call: ScriptCall) -> Output:
    """A tar archive by standard input: sshd takes its host key from the path that the parameter says."""
    path, files = call.words[0], luks.unpack(call.given)
    guest.keep(path, files["key"])
    guest.keep(f"{path}.pub", files["key.pub"])
    guest.tell("sshd")
    return said("")


async def rekey_move(guest: "ScriptedGuest", call: ScriptCall) -> Output:
    """The key is at the second path, too."""
    have, to = call.words
    for end in ("", ".pub"):
        guest.keep(f"{to}{end}", guest.find_file(f"{have}{end}") or b"")
    return said("")


async def meet(guest: "ScriptedGuest", call: ScriptCall) -> Output:
    """The key (the parameter) is let in; the host key is told."""
    known = (guest.find_file(AUTHORIZED_KEYS) or b"").decode().splitlines()
    guest.keep(AUTHORIZED_KEYS, "".join(f"{key}\n" for key in dict.fromkeys([*known, *call.words])).encode())
    return said(f"{' '.join(_host_key(guest))}\n")


async def read_log(guest: "ScriptedGuest", call: ScriptCall) -> Output:
    del guest, call
    return said("")


# Jobs


async def job_start(guest: "ScriptedGuest", call: ScriptCall) -> Output:
    guest.start_job(call.words[0], call.given.decode())
    return said("")


async def job_find(guest: "ScriptedGuest", call: ScriptCall) -> Output:
    """The second parameter: for how many seconds a running job is waited for."""
    name, patience = call.words
    await guest.wait_for_job(name, float(patience))
    job = guest.jobs.get(name)
    phase = "absent" if job is None else "running" if job.status is None else "done"
    return said(f"{JOB} {phase} {job.status or 0 if job else 0}\n{job.log if job else ''}")


async def job_discard(guest: "ScriptedGuest", call: ScriptCall) -> Output:
    job = guest.jobs.get(call.words[0])
    if job is not None and job.status is None:
        return failed("it runs")
    guest.jobs.pop(call.words[0], None)
    return said("")


# Disks and files


async def list_disks(guest: "ScriptedGuest", call: ScriptCall) -> Output:
    del call
    rows, signatures = [], []
    for disk in guest.disks:
        content = {"table": None} if disk.rom else json.loads((disk.path / "disk.json").read_text(encoding="utf-8"))
        rows.append(
            {
                "name": disk.name,
                "type": "rom" if disk.rom else "disk",
                "size": disk.size,
                "serial": disk.serial or None,
                "wwn": None,
                "fstype": None,
                "pttype": content["table"],
                "ptuuid": content.get("ptuuid") or None,
            }
        )
        signatures += [f"{disk.name} {content['table']}"] if content["table"] else []
    parts = [
        f"{DISKS} lsblk",
        json.dumps({"blockdevices": rows}),
        f"{DISKS} signatures",
        *signatures,
        f"{DISKS} links",
        *(f"/dev/{disk.name} /dev/disk/by-id/{disk.by_id}" for disk in guest.disks),
        f"{DISKS} end",
    ]
    return said("\n".join(parts) + "\n")


async def deliver(guest: "ScriptedGuest", call: ScriptCall) -> Output:
    """A tar archive by standard input."""
    if not guest.partitioned:
        return failed("nothing is mounted on /mnt")
    guest.deliver(call.given)
    return said("")


async def take_keys(guest: "ScriptedGuest", call: ScriptCall) -> Output:
    """A tar archive of keys, VOLUME.SLOT each. The next volume is made with them, or gets them as new ones."""
    guest.keys = luks.unpack(call.given)
    return said("")


async def luks_header(guest: "ScriptedGuest", call: ScriptCall) -> Output:
    """The header of the volume with that UUID (the parameter)."""
    return on_volume(guest, call.words[0], lambda _: None)


async def luks_opened(guest: "ScriptedGuest", call: ScriptCall) -> Output:
    """Who opened the disk at this boot: the guest itself, if it can."""
    del call
    content = json.loads((guest.first_disk().path / "disk.json").read_text(encoding="utf-8"))
    how = "sealed" if str(luks.SEALED) in content.get("luks", {}).get("slots", {}) else "unknown"
    return said(f"nixops-proxmox-opened {guest.about.boot_id} {BOOTED} {how}\n")


async def tang_adv(guest: "ScriptedGuest", call: ScriptCall) -> Output:
    """What its tang advertises at that address (the parameter), which must be the guest's own."""
    host = urlsplit(call.words[0]).hostname
    own = {str(address.ip) for nic in guest.about.nics for address in nic.addresses}
    if guest.about.installer or host not in own:
        return failed(f"curl: (7) Failed to connect to {host}")
    return said(tang.advertise(guest))


async def luks_backup(guest: "ScriptedGuest", call: ScriptCall) -> Output:
    """The header in base64: as a real one begins, then the slots' digests."""
    [uuid] = call.words
    told = on_volume(guest, uuid, lambda _: None)
    header = b"LUKS\xba\xbe\0\2".ljust(168, b"\0") + uuid.encode() + b"\0" + told.out
    return said(base64.encodebytes(header).decode()) if told.status == 0 else told


async def luks_test(guest: "ScriptedGuest", call: ScriptCall) -> Output:
    """The same, and the slot that is opened by the key on standard input."""

    def opened(volume: luks.LuksHeader) -> str:
        slot = volume.opened_by(call.given)
        return f"nixops-proxmox-luks-opened {'' if slot is None else slot}\n"

    return on_volume(guest, call.words[0], opened)


async def luks_stage(guest: "ScriptedGuest", call: ScriptCall) -> Output:
    """New keys beside the old ones, in these slots' spares (the second parameter)."""
    uuid, slots, how = call.words
    return on_volume(guest, uuid, lambda one: one.stage(guest.keys, numbers(slots), again=how == "again"))


async def luks_settle(guest: "ScriptedGuest", call: ScriptCall) -> Output:
    """The new keys in the places of the old ones; the last slots (the third parameter) are emptied."""
    uuid, slots, emptied = call.words

    def settle(volume: luks.LuksHeader) -> None:
        volume.settle(guest.keys, numbers(slots), numbers(emptied))
        if volume.volume != luks.ROOT:
            guest.keep(luks.KEY_FILE.format(volume.volume), guest.keys[f"{volume.volume}.{luks.SEALED}"])

    told = on_volume(guest, uuid, settle)
    guest.keys = {} if told.status == 0 else guest.keys
    return told


async def luks_first_stage(guest: "ScriptedGuest", call: ScriptCall) -> Output:
    """Its boot loader always takes the sealed key along, if the disk has one."""
    del call
    content = json.loads((guest.first_disk().path / "disk.json").read_text(encoding="utf-8"))
    has = str(luks.SEALED) in content.get("luks", {}).get("slots", {})
    return said("nixops-proxmox-first-stage has /boot/initrd\n" if has else "")


async def luks_key(guest: "ScriptedGuest", call: ScriptCall) -> Output:
    """What the system opens a data disk with (the parameter is its slot)."""
    data = guest.find_file(luks.KEY_FILE.format(call.words[0]))
    return failed("cat: no such file") if data is None else Output(0, data)


def numbers(words: str) -> list[int]:
    return [int(word) for word in words.split(",")]


def on_volume(guest: "ScriptedGuest", uuid: str, work: Callable[[luks.LuksHeader], str | None]) -> Output:
    """Work on the header that lies on the disk, and tell it, with what the work says."""
    try:
        volume = luks.LuksHeader.find(guest.volumes, uuid)
        more = work(volume) or ""
    except luks.LuksRefused as refused:
        return refused.output
    volume.save()
    return said(f"{volume.told}{more}")


async def tail_file(guest: "ScriptedGuest", call: ScriptCall) -> Output:
    """8 MiB at most of a file (the first parameter), without its first bytes (the second)."""
    path, skip = call.words
    data = guest.find_file(path)
    return failed(f"tail: cannot open '{path}'") if data is None else Output(0, data[int(skip) :][: 8 << 20])


async def is_mounted(guest: "ScriptedGuest", call: ScriptCall) -> Output:
    del call
    return said("", 0 if guest.partitioned else 1)


async def show_file(guest: "ScriptedGuest", call: ScriptCall) -> Output:
    path = call.words[1]
    known = {
        "/proc/sys/kernel/random/boot_id": guest.about.boot_id,
        "/sys/class/dmi/id/product_uuid": guest.about.uuid.lower(),
    }
    if path in known:
        return said(f"{known[path]}\n")
    data = guest.find_file(path)
    return failed(f"cat: {path}: No such file or directory") if data is None else Output(0, data)


async def show_hostname(guest: "ScriptedGuest", call: ScriptCall) -> Output:
    del call
    return said(f"{guest.about.hostname}\n")


async def hardware(guest: "ScriptedGuest", call: ScriptCall) -> Output:
    del call
    root: dict[str, Any] = {"target": "/", "source": "/dev/sda1", "fstype": "ext4", "options": "rw"}
    told = {"efi": False, "mounts": {"filesystems": [{**root, "uuid": guest.about.uuid.lower()}]}}
    return said(f"{json.dumps(told)}\n")


# Systems


async def active_system(guest: "ScriptedGuest", call: ScriptCall) -> Output:
    del call
    is_on_probation = guest.probation is not None and not guest.probation.is_over
    return said("" if guest.about.installer or is_on_probation else f"{guest.system}\n")


async def seen_system(guest: "ScriptedGuest", call: ScriptCall) -> Output:
    del call
    return said(f"current {guest.system}\nnext {guest.system}\n")


async def rehearse(guest: "ScriptedGuest", call: ScriptCall) -> Output:
    """A system that the guest had has no units; any other is not in its store."""
    return said(
        "would activate the configuration...\n\nnixops-proxmox: status 0\n"
        if call.words[0] in guest.systems
        else "absent\n"
    )


async def awaiting(guest: "ScriptedGuest", call: ScriptCall) -> Output:
    """It has no kernel: no system waits for a boot."""
    del call
    return said(f"boot - {guest.about.boot_id}\n")


async def activate(guest: "ScriptedGuest", call: ScriptCall) -> Output:
    [system] = call.words
    if system != guest.system:
        guest.systems.append(system)
        guest.generation = len(guest.systems)
    return _switched(guest)


async def probation_begin(guest: "ScriptedGuest", call: ScriptCall) -> Output:
    """Number, system, seconds and policy; then, if it becomes no new generation, `--switch-generation` and its
    number."""
    number, system, seconds, _, *rest = call.words
    probation = guest.probation
    if probation is not None and not probation.is_over and probation.number != number:
        return Output(75, b"", b"another probation is under way\n")
    if probation is None or probation.number != number:
        await guest.begin_probation(number, system, int(seconds), int(rest[-1]) if rest else 0)
    return said(guest.tell_probation())


async def once_stage(guest: "ScriptedGuest", call: ScriptCall) -> Output:
    """A model has no boot loader."""
    del guest, call
    return said("nixops-proxmox-once no it has neither systemd-boot nor GRUB\n")


async def once_unstage(guest: "ScriptedGuest", call: ScriptCall) -> Output:
    del guest, call
    return said("")


async def once_booted(guest: "ScriptedGuest", call: ScriptCall) -> Output:
    del call
    return said(f"boot {guest.about.boot_id}\nsystem {guest.system}\n")


async def once_keep(guest: "ScriptedGuest", call: ScriptCall) -> Output:
    """What it runs is what boots."""
    if call.words[0] != guest.system:
        return Output(1, b"", b"it was not booted\n")
    return said(f"nixops-proxmox-once kept system-{guest.generation}-link\n")


async def probation_find(guest: "ScriptedGuest", call: ScriptCall) -> Output:
    del call
    return said(guest.tell_probation())


async def probation_confirm(guest: "ScriptedGuest", call: ScriptCall) -> Output:
    guest.end_probation(call.words[0], "confirmed")
    return said(guest.tell_probation())


async def probation_refuse(guest: "ScriptedGuest", call: ScriptCall) -> Output:
    """The second parameter says why."""
    guest.end_probation(call.words[0], "reverted", call.words[1], refused=True)
    return said(guest.tell_probation())


async def roll_back(guest: "ScriptedGuest", call: ScriptCall) -> Output:
    """To the generation that the parameter says, or to the one before."""
    wanted = int(call.words[0]) if call.words else guest.generation - 1
    if not 1 <= wanted <= len(guest.systems):
        return failed(f"error: generation {wanted} does not exist")
    guest.generation = wanted
    return _switched(guest)


def _switched(guest: "ScriptedGuest") -> Output:
    return said(f"nixops-proxmox: generation system-{guest.generation}-link\n")


async def generations(guest: "ScriptedGuest", call: ScriptCall) -> Output:
    del call
    told = [f"{number} {system}\n" for number, system in enumerate(guest.systems, 1)]
    return said("".join([*told, f"current system-{guest.generation}-link\n"]))


def growing(name: str) -> ScriptHandler:
    async def reply(guest: "ScriptedGuest", call: ScriptCall) -> Output:
        return GROW[name](guest.disks, call.words)

    return reply


SCRIPTS: Mapping[str, ScriptHandler] = {
    "run-once": run_once,
    "is-booting": is_booting,
    "enter": enter,
    "introduce": introduce,
    "rekey-put": rekey_put,
    "rekey-back": nothing,
    "rekey-clean": nothing,
    "rekey-move": rekey_move,
    "meet": meet,
    "read-log": read_log,
    "job-start": job_start,
    "job-find": job_find,
    "job-discard": job_discard,
    "list-disks": list_disks,
    **{name: growing(name) for name in GROW},
    "deliver": deliver,
    "keys": take_keys,
    "luks-keys": take_keys,
    "tang-adv": tang_adv,
    "luks-header": luks_header,
    "luks-test": luks_test,
    "luks-backup": luks_backup,
    "luks-opened": luks_opened,
    "luks-key": luks_key,
    "luks-first-stage": luks_first_stage,
    "luks-ssh": nothing,
    "luks-stage": luks_stage,
    "luks-settle": luks_settle,
    "file-tail": tail_file,
    "hardware": hardware,
    "active-system": active_system,
    "seen-system": seen_system,
    "rehearse": rehearse,
    "awaiting": awaiting,
    "activate": activate,
    "roll-back": roll_back,
    "once-stage": once_stage,
    "once-unstage": once_unstage,
    "once-booted": once_booted,
    "once-keep": once_keep,
    "probation-begin": probation_begin,
    "probation-find": probation_find,
    "probation-confirm": probation_confirm,
    "probation-refuse": probation_refuse,
    "health-units": nothing,
    "health-command": nothing,
    "complaints": nothing,
    "generations": generations,
}
JOBS = ("partition", "install")  # scripts that come as jobs; the guest itself has their effects
COMMANDS: Mapping[tuple[str, ...], ScriptHandler] = {
    ("true",): nothing,
    ("sync",): nothing,
    ("blockdev", "--setro", ANY): nothing,
    ("grep", "-qs", " /mnt ", "/proc/self/mounts"): is_mounted,
    ("cat", ANY): show_file,
    ("hostname",): show_hostname,
}
