"""The keys of encrypted disks, as verbs work on them: tried, and replaced by new ones."""

from collections.abc import Mapping

from nixops_proxmox.errors import ConfigError
from nixops_proxmox.kinds.machine.answers import read_answer
from nixops_proxmox.kinds.machine.encrypted import ROOT, part_of, recorded_volumes, told_as
from nixops_proxmox.kinds.machine.errands.rotating import Rotate
from nixops_proxmox.kinds.machine.header import HeaderSeen, compare, parse_tried, try_script
from nixops_proxmox.kinds.machine.ports import Escrow
from nixops_proxmox.kinds.machine.steps.encrypting import require_record, system_shell
from nixops_proxmox.model import Machine
from nixops_proxmox.operations.pursuit import Pursuit
from nixops_proxmox.secrecy import learn
from nixops_proxmox.spelling import Verb, command

TIMEOUT = 180.0  # seconds: a key slot that a person made may take some, and every slot is tried


def find_recovery_key(escrow: Escrow, machine: Machine, volume: str = ROOT) -> str:
    """The recovery key, from where the record says that it went. ConfigError if it cannot be read there."""
    sink = part_of(machine.facts.luks, volume).get("sink", "")
    key = escrow.find_key(sink)
    if key is None:
        where = sink if sink.startswith("/") else f"a {sink}" if sink else "no sink"
        words = (
            (machine.name, "--key-file", "-") if volume == ROOT else (machine.name, "--disk", volume, "--key-file", "-")
        )
        raise ConfigError(
            f"{machine.name}: the recovery key of {volume} went to {where}, which cannot be read from here",
            hint=f"give the key on the standard input: {command(Verb.RECOVERY_TEST, *words)}",
        )
    return key


def try_keys(pursuit: Pursuit, given: str = "", volume: str = "") -> Mapping[str, HeaderSeen]:
    """By volume: which key slot the recovery key opens, and how the header differs from the record. `given` empty: the
    keys are read from the recorded sinks. `volume` empty: all of them, or the root's where one is given. Nothing is
    opened for use."""
    pursuit.machine = pursuit.as_seen()
    world, machine = pursuit.world, pursuit.machine
    require_record(machine)
    known = recorded_volumes(machine.facts.luks, world.spec)
    if volume and volume not in known:
        raise ConfigError(
            f"{machine.name}: its record knows of no encrypted disk {volume}", hint=f"there are {', '.join(known)}"
        )
    wanted = (volume,) if volume else (ROOT,) if given else known
    return {one: _try_key(pursuit, given or find_recovery_key(world.escrow, machine, one), one) for one in wanted}


def _try_key(pursuit: Pursuit, key: str, volume: str) -> HeaderSeen:
    world, machine = pursuit.world, pursuit.machine
    learn(key)
    part = part_of(machine.facts.luks, volume)
    done = system_shell(world, machine).run(try_script(part["uuid"]), stdin=key.encode(), timeout=TIMEOUT)
    failed = f"{machine.name}: its {told_as(volume, part)} cannot be looked at"
    header, slot = read_answer(done, parse_tried, failed, "it needs cryptsetup 2.4 or newer")
    return compare(header, part, slot)


def rotate(pursuit: Pursuit, given: str = "") -> Machine:
    """Make new keys for the machine's disks, as the description says by now. `given`: a key that opens one."""
    learn(given)
    pursuit.machine = pursuit.as_seen()
    return pursuit.run(Rotate(given))
