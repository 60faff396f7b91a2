"""Upload installer ISOs and disk images to a hypervisor's storage.

Never sends the same content twice.
"""

import argparse
from pathlib import Path

from nixops_proxmox.cli.arguments import add_common, complete, find_told_deployment, state_location
from nixops_proxmox.display.arguments import add_json
from nixops_proxmox.display.progress import start_transfer
from nixops_proxmox.display.screen import Screen

IMAGES = (".qcow2", ".raw", ".vmdk", ".ova")  # what PVE imports; everything else is an ISO


def add_arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(title="actions", dest="action", metavar="ACTION", required=True)
    about = "Upload a file unless it is there; print its volume ID"
    upload = actions.add_parser("upload", help=about, description=about)
    complete(upload.add_argument("path", metavar="PATH", type=Path), "file")
    upload.add_argument(
        "--storage", metavar="NAME", default="", help="Upload to this storage (default: one that takes it)"
    )
    upload.add_argument("--node", metavar="NAME", default="", help="Upload to this node, if the storage is not shared")
    upload.add_argument(
        "--content", choices=("iso", "import"), help="Set PVE's content type (default: by the file's name)"
    )
    add_json(upload)
    add_common(upload)


def run(args: argparse.Namespace, screen: Screen) -> int:
    from nixops_proxmox.operations import open_volumes
    from nixops_proxmox.operations.networks import enter_networks, usual_profile

    profile = usual_profile(args.profile)
    enter_networks([profile])
    content = args.content or ("import" if args.path.suffix.lower() in IMAGES else "iso")
    told = find_told_deployment(args)
    state = state_location(args) if told else ""
    with (
        open_volumes(profile, state=state, deployment=told) as volumes,
        start_transfer(screen.err, f"uploading {args.path.name}") as progress,
    ):
        put = volumes.put(args.path, content, storage=args.storage, node=args.node, progress=progress)
    if args.json:
        screen.json({"volume": put.volume, "node": put.node or None, "uploaded": put.uploaded})
        return 0
    where = f" on {put.node}" if put.node else ""
    screen.say(f"{'uploaded' if put.uploaded else 'it is already there'}{where}")
    screen.result(put.volume)
    return 0
