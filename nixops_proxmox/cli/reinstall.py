"""Install machines anew: same VMID, UUID, MACs and host key; disks marked `keep` are not written."""

import argparse

from nixops_proxmox.cli.arguments import add_machines, add_run, add_yes, open_deployed, select
from nixops_proxmox.cli.console import Console
from nixops_proxmox.cli.runs import carry_out


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_machines(parser)
    add_run(parser)
    add_yes(parser)


def run(args: argparse.Namespace, console: Console) -> int:
    with open_deployed(args, console) as deployed:
        names = select(deployed.described(), args)
        for name in names:
            disks = deployed.spec(name).disks
            lost = [f"disk {number} ({disk.size})" for number, disk in enumerate(disks) if not disk.keep]
            console.say(f"{name}: what is on {', '.join(lost) or 'no disk'} will be lost")
        if names and not console.ask(f"reinstall {', '.join(names)}?", yes=args.yes):
            console.say("nothing was done")
            return 0
        return carry_out(args, console, names, "ready", lambda: deployed.reinstall(names), deployed.machines)
