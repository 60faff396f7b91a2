"""Upload installer ISOs and disk images to a storage, or delete them.

Never sends the same content twice.
"""

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from nixops_proxmox.cli.arguments import add_common, complete, find_told_deployment, open_deployed, state_location
from nixops_proxmox.display.arguments import add_json, add_yes
from nixops_proxmox.display.screen import Screen
from nixops_proxmox.errors import ConfigError
from nixops_proxmox.messages.shapes.volumes import UploadJson, UploadRemovedJson, UploadsJson

if TYPE_CHECKING:
    from nixops_proxmox.core.ports import OnBytes
    from nixops_proxmox.operations.volumes import Put, Volumes

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
    upload.add_argument("--each", action="store_true", help="Upload to each node of each hypervisor of the network")
    upload.add_argument(
        "--content", choices=("iso", "import"), help="Set PVE's content type (default: by the file's name)"
    )
    add_json(upload)
    add_common(upload)
    upload.set_defaults(act=run_upload)
    about = "Delete a file that was uploaded, unless a VM has it inserted"
    remove = actions.add_parser("remove", help=about, description=f"{about}. Asks first.")
    what = remove.add_argument("what", metavar="VOLUME|PATH", help="Name the volume, or the file that was uploaded")
    complete(what, "file")
    remove.add_argument("--node", metavar="NAME", default="", help="Delete it on this node, if several have one")
    add_yes(remove)
    add_json(remove)
    add_common(remove)
    remove.set_defaults(act=run_remove)


def content_of(path: Path) -> str:
    """PVE's content type, by the file's name."""
    return "import" if path.suffix.lower() in IMAGES else "iso"


def run(args: argparse.Namespace, screen: Screen) -> int:
    status: int = args.act(args, screen)
    return status


def run_remove(args: argparse.Namespace, screen: Screen) -> int:
    from nixops_proxmox.messages.amounts import amount
    from nixops_proxmox.operations import open_uploads
    from nixops_proxmox.pve.wire.networks import enter_networks, usual_profile

    profile = usual_profile(args.profile)
    enter_networks([profile])
    told = find_told_deployment(args)
    with open_uploads(profile, state=state_location(args), deployment=told) as uploads:
        upload = uploads.find(args.what, content_of(Path(args.what)), args.node)
        volume, node = upload.medium.volume, upload.medium.only_node
        where = f"{volume} on {node}" if node else volume
        there = upload.size is not None
        agreed = not there or screen.ask(f"delete {where} ({amount(upload.size or 0)})?", yes=args.yes)
        if agreed:
            uploads.remove(upload)
    if args.json:
        screen.json(UploadRemovedJson(volume=volume, node=node or None, removed=there and agreed))
        return 0
    screen.say("nothing was done" if not agreed else f"deleted {where}" if there else f"{where} is gone already")
    return 0


def run_upload(args: argparse.Namespace, screen: Screen) -> int:
    return run_upload_to_each(args, screen) if args.each else run_upload_to_one(args, screen)


@contextmanager
def start_upload(args: argparse.Namespace, screen: Screen, profile: str) -> Iterator["tuple[Volumes, str, OnBytes]"]:
    """Where it goes, PVE's content type, and what is told of the progress."""
    from nixops_proxmox.operations import open_volumes

    told = find_told_deployment(args)
    with (
        open_volumes(profile, state=state_location(args) if told else "", deployment=told) as volumes,
        screen.transfer(f"uploading {args.path.name}" + (f" to {profile}" if args.each else "")) as progress,
    ):
        yield volumes, args.content or content_of(args.path), progress


def run_upload_to_each(args: argparse.Namespace, screen: Screen) -> int:
    """What machines boot is the same volume everywhere, if every hypervisor has the storage."""
    from nixops_proxmox.operations.networks import described_profiles

    if args.node:
        raise ConfigError("--each is for all nodes", hint="leave out --node")
    with open_deployed(args, screen) as deployed:
        profiles = described_profiles(deployed, args.profile)
    shown: list[tuple[str, Put]] = []
    for profile in profiles:
        with start_upload(args, screen, profile) as (volumes, content, progress):
            puts = volumes.put_on_each(args.path, content, storage=args.storage, progress=progress)
            shown += [(profile, put) for put in puts]
    if args.json:
        screen.json(UploadsJson(uploads=[{"hypervisor": profile, **upload_json(put)} for profile, put in shown]))
        return 0
    for profile, put in shown:
        screen.say(f"{profile}{f' {put.node}' if put.node else ''}: {'uploaded' if put.uploaded else 'it is there'}")
    screen.result("\n".join(sorted({put.volume for _, put in shown})))
    return 0


def run_upload_to_one(args: argparse.Namespace, screen: Screen) -> int:
    from nixops_proxmox.pve.wire.networks import enter_networks, usual_profile

    profile = usual_profile(args.profile)
    enter_networks([profile])
    with start_upload(args, screen, profile) as (volumes, content, progress):
        put = volumes.put(args.path, content, storage=args.storage, node=args.node, progress=progress)
    if args.json:
        screen.json(upload_json(put))
        return 0
    where = f" on {put.node}" if put.node else ""
    screen.say(f"{'uploaded' if put.uploaded else 'it is already there'}{where}")
    screen.result(put.volume)
    return 0


def upload_json(put: "Put") -> UploadJson:
    return {"volume": put.volume, "node": put.node or None, "uploaded": put.uploaded}
