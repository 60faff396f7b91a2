"""Put installer ISOs and disk images on a hypervisor's storage; the same content never travels twice."""

import argparse
from pathlib import Path

from nixops_proxmox.cli.arguments import add_common, add_json, choose_profile, complete, enter_networks
from nixops_proxmox.cli.console import Console
from nixops_proxmox.cli.progress import start_transfer

IMAGES = (".qcow2", ".raw", ".vmdk", ".ova")  # what PVE imports; everything else is an ISO


def add_arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(title="actions", dest="action", metavar="ACTION", required=True)
    about = "upload a file, if it is not there yet; prints the volume ID for `install.iso` or `install.image`"
    upload = actions.add_parser("upload", help=about, description=about)
    complete(upload.add_argument("path", metavar="PATH", type=Path), "file")
    upload.add_argument("--storage", metavar="NAME", default="", help="where to; otherwise one that takes it is chosen")
    upload.add_argument("--node", metavar="NAME", default="", help="on which node, where the storage is not shared")
    upload.add_argument(
        "--content", choices=("iso", "import"), help="what it is to PVE; otherwise the file's name tells"
    )
    add_json(upload)
    add_common(upload)


def run(args: argparse.Namespace, console: Console) -> int:
    from nixops_proxmox.wiring import open_volumes

    profile = choose_profile(args) or "default"
    enter_networks([profile])
    content = args.content or ("import" if args.path.suffix.lower() in IMAGES else "iso")
    with open_volumes(profile) as volumes, start_transfer(console.err, f"uploading {args.path.name}") as progress:
        put = volumes.put(args.path, content, storage=args.storage, node=args.node, progress=progress)
    if args.json:
        console.json({"volume": put.volume, "node": put.node or None, "uploaded": put.uploaded})
        return 0
    where = f" on {put.node}" if put.node else ""
    console.say(f"{'uploaded' if put.uploaded else 'it is there already'}{where}")
    console.result(put.volume)
    return 0
