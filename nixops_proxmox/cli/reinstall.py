"""Install machines again on their VMs.

The VMID, UUID, MAC addresses and host key stay the same. Disks marked `keep` are not written.
"""

import argparse
from typing import TYPE_CHECKING

from nixops_proxmox.cli.arguments import add_machines, add_run, add_yes, open_deployed, select
from nixops_proxmox.cli.console import Console
from nixops_proxmox.cli.runs import carry_out

if TYPE_CHECKING:
    from nixops_proxmox.spec import MachineSpec


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_machines(parser)
    add_run(parser)
    add_yes(parser)


def run(args: argparse.Namespace, console: Console) -> int:
    with open_deployed(args, console) as deployed:
        names = select(deployed.described(), args)
        for name in names:
            console.say(what_is_lost(deployed.spec(name)))
            for line in () if not makes_anew(deployed.spec(name)) else deployed.losses(name):
                console.say(f"  also deleted: {line}")
        if names and not console.ask(f"reinstall {', '.join(names)}?", yes=args.yes):
            console.say("nothing was done")
            return 0
        return carry_out(args, console, names, "ready", lambda: deployed.reinstall(names), deployed.machines)


def makes_anew(spec: "MachineSpec") -> bool:
    """A copy of an image or template begins with a new VM."""
    return spec.install.source.value != "iso"


def what_is_lost(spec: "MachineSpec") -> str:
    lost = [f"{disk.slot} ({disk.size / 2**30:g} GiB)" for disk in spec.disks if not disk.keep]
    kept = [disk.slot for disk in spec.disks if disk.keep]
    more = f"; {', '.join(kept)} will be kept" if kept else ""
    return f"{spec.name}: what is on {', '.join(lost) or 'no disk'} will be lost{more}"
