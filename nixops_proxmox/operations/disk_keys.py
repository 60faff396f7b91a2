"""The keys of encrypted disks, as verbs work on them: tried, and replaced by new ones."""

from nixops_proxmox.errors import ConfigError
from nixops_proxmox.kinds.machine.answers import read_answer
from nixops_proxmox.kinds.machine.errands.rotating import Rotate
from nixops_proxmox.kinds.machine.header import HeaderSeen, compare, parse_tried, try_script
from nixops_proxmox.kinds.machine.ports import Escrow
from nixops_proxmox.kinds.machine.steps.encrypting import require_record, system_shell
from nixops_proxmox.model import Machine
from nixops_proxmox.operations.pursuit import Pursuit
from nixops_proxmox.secrecy import learn
from nixops_proxmox.spelling import Verb, command

TIMEOUT = 180.0  # seconds: a key slot that a person made may take some, and every slot is tried


def find_recovery_key(escrow: Escrow, machine: Machine) -> str:
    """The recovery key, from where the record says that it went. ConfigError if it cannot be read there."""
    sink = machine.facts.luks.get("sink", "")
    key = escrow.find_key(sink)
    if key is None:
        where = sink if sink.startswith("/") else f"a {sink}" if sink else "no sink"
        raise ConfigError(
            f"{machine.name}: its recovery key went to {where}, which cannot be read from here",
            hint=f"give the key on the standard input: {command(Verb.RECOVERY_TEST, machine.name, '--key-file', '-')}",
        )
    return key


def try_key(pursuit: Pursuit, given: str = "") -> HeaderSeen:
    """Which key slot of the machine's disk the key opens, and how the header differs from the record. `given` empty:
    the key is read from the recorded sink. Nothing is opened for use."""
    pursuit.machine = pursuit.as_seen()
    world, machine = pursuit.world, pursuit.machine
    volume = require_record(machine)
    key = given or find_recovery_key(world.escrow, machine)
    learn(key)
    done = system_shell(world, machine).run(try_script(volume), stdin=key.encode(), timeout=TIMEOUT)
    failed = f"{machine.name}: its disk {volume} cannot be looked at"
    header, slot = read_answer(done, parse_tried, failed, "it needs cryptsetup 2.4 or newer")
    return compare(header, machine.facts.luks, slot)


def rotate(pursuit: Pursuit, given: str = "") -> Machine:
    """Make new keys for the machine's disk, as the description says by now. `given`: a key that opens it."""
    learn(given)
    pursuit.machine = pursuit.as_seen()
    return pursuit.run(Rotate(given))
