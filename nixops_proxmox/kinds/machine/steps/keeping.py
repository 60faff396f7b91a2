"""Machines that serve tang are asked for their keys over SSH, whose host key is proven, and never by HTTP from afar."""

from dataclasses import replace

from nixops_proxmox.errors import DeployError, StateError
from nixops_proxmox.kinds.machine.answers import read_answer
from nixops_proxmox.kinds.machine.keepers import (
    KNOWN,
    advertisement_script,
    find_url,
    keepers_of,
    moves_about,
    parse_advertisement,
    parse_known,
)
from nixops_proxmox.kinds.machine.shape import Attempt, World
from nixops_proxmox.model import Machine, Phase
from nixops_proxmox.spec import Tang
from nixops_proxmox.spelling import Verb, command


def learn_keepers(world: World, machine: Machine, attempt: Attempt) -> None:
    """Note the address and the key of each machine that is to unseal the disk's key. Safe to repeat: it only looks."""
    for one in keepers_of(world.spec.encryption):
        url, thumbprints = _ask(world, machine, one)
        _, known = parse_known(attempt.facts.luks).get(str(one.machine), ("", ""))
        thumbprint = known if known in thumbprints else thumbprints[0]
        if moves_about(world.others(str(one.machine))[1]) and not one.url:
            world.reporter.warn(
                machine, f"{one.machine} has no static address: if {url} changes, the disk does not open by itself"
            )
        luks = {**attempt.facts.luks, f"{KNOWN}{one.machine}": f"{url} {thumbprint}"}
        attempt.note(replace(attempt.facts, luks=luks))


def refuse_other_keepers(world: World, machine: Machine) -> None:
    """StateError if a machine that unseals the disk's key has other keys by now. One that does not answer is told."""
    known = parse_known(machine.facts.luks)
    for one in keepers_of(world.spec.encryption):
        if str(one.machine) not in known:
            continue
        sealed_for, thumbprint = known[str(one.machine)]
        try:
            url, thumbprints = _ask(world, machine, one)
        except DeployError as error:
            world.reporter.warn(machine, f"whether {one.machine} would open its disk is not known: {error.message}")
            continue
        if thumbprint not in thumbprints:
            _refuse(world, machine, one, thumbprint, thumbprints[0])
        elif url != sealed_for:
            rotate = command(Verb.RECOVERY_ROTATE, machine.name)
            world.reporter.warn(
                machine,
                f"the key of its disk is sealed for {one.machine} at {sealed_for}, and it is at {url} now"
                f" ({rotate} seals one for that)",
            )


def _refuse(world: World, machine: Machine, one: Tang, known: str, found: str) -> None:
    text = (
        f"the key of its disk is sealed for the tang key {known} of {one.machine}, which advertises {found} now: "
        "it may not open by itself when it boots"
    )
    rotate = command(Verb.RECOVERY_ROTATE, machine.name)
    if not world.permissions.adjust:
        world.reporter.warn(machine, f"{text} ({rotate} seals one for the new key)")
        return
    raise StateError(
        f"{machine.name}: {text}",
        hint=f"if {one.machine} was made new on purpose, {rotate} seals a key for it; else bring its keys back",
    )


def _ask(world: World, machine: Machine, one: Tang) -> tuple[str, tuple[str, ...]]:
    """Its address as tang, and the thumbprints of its keys."""
    name = str(one.machine)
    keeper, spec = world.others(name)
    path = f"{machine.name}: encryption.unlock.tang: {name}"
    if keeper.phase is not Phase.READY:
        raise StateError(
            f"{path} is {keeper.phase}, and only a machine that is ready can tell its key",
            hint=f"{command(Verb.DEPLOY, name, machine.name)} makes {name} ready first",
        )
    url = find_url(one, keeper, spec, world.spec)
    if url is None:
        raise StateError(f"{path} has no address that others reach", hint="set `url` beside `machine`")
    done = world.guest.system_shell(keeper, spec).run(advertisement_script(url))
    thumbprint = read_answer(
        done,
        parse_advertisement,
        f"{path} does not answer as a tang server at {url}",
        "set services.tang.enable = true there, let its own network in by services.tang.ipAddressAllow, and open the"
        " port in its firewall",
    )
    return url, thumbprint
