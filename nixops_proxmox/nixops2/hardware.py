"""Asks the installed system, once after each installation, what its file systems and its boot loader are."""

import json
from typing import Any

from nixops_proxmox.errors import CommandFailed
from nixops_proxmox.model import Machine
from nixops_proxmox.nixops2.book import Book
from nixops_proxmox.nixops2.physical import HARDWARE_SCRIPT, parse_hardware
from nixops_proxmox.nixops2.run import Run
from nixops_proxmox.reach.guests import Guests
from nixops_proxmox.spec import MachineSpec


def learn_hardware(machine: Machine, spec: MachineSpec, book: Book, run: Run) -> None:
    if book.record_now.hardware.get("round") == machine.facts.round:
        return
    try:
        hardware = _ask(machine, spec, run.parts.guests)
    finally:
        run.parts.guests.leave(machine.name)
    book.keep(hardware={**hardware, "round": machine.facts.round})


def _ask(machine: Machine, spec: MachineSpec, guests: Guests) -> dict[str, Any]:
    shell = guests.system_shell(machine, spec)
    done = shell.run(HARDWARE_SCRIPT)
    try:
        disks = guests.list_disks(shell, machine, spec) if spec.disks else ()
        return parse_hardware(json.loads(done.stdout), disks[0] if disks else None)
    except (ValueError, KeyError, TypeError, AttributeError, ArithmeticError, RecursionError) as error:
        raise CommandFailed(
            f"{machine.name}: could not find out its file systems: {done.stderr.strip() or error}",
            status=done.status,
            output=done.stdout,
            hint="does the installed system have findmnt (util-linux)?",
        ) from error
