"""Run a Proxmox VE in a box on this machine, to try things safely.

It touches nothing of yours.
"""

import argparse
import json
import os
import ssl
import sys
import urllib.error
import urllib.request
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nixops_proxmox import paths
from nixops_proxmox.cli.profile import write_profile
from nixops_proxmox.cli.ssh import become
from nixops_proxmox.display.arguments import add_json
from nixops_proxmox.display.screen import Screen
from nixops_proxmox.errors import ConfigError, DeployError
from nixops_proxmox.messages.lines import Line
from nixops_proxmox.messages.shapes.setup import LabJson, NoLabJson
from nixops_proxmox.namespace import INSIDE_VARIABLE
from nixops_proxmox.texts import moment_text

if TYPE_CHECKING:
    from nixops_proxmox.lab.service import LabProcess

NAME = "lab"
VERSIONS = ("7.4", "8.4", "9.0", "9.1")
PORT = 8006
# A start that fails ends at once. These are for one that hangs: a busy computer is slow, and the first start with QEMU
# builds the installer's image.
UP_SECONDS = {"simulated": 300.0, "qemu": 1800.0}


class LabError(DeployError):
    """The lab did not come up, did not go down, or did not answer."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--name", metavar="NAME", default=NAME, help=f"Name the lab and its profile (default: {NAME})")
    actions = parser.add_subparsers(title="actions", dest="action", metavar="ACTION", required=True)
    up = actions.add_parser("up", help="Start the lab, and write a profile for it")
    guests = up.add_mutually_exclusive_group()
    guests.add_argument("--simulated", action="store_true", help="Simulate the guests: quick, and needs nothing")
    guests.add_argument("--qemu", action="store_true", help="Run real guests, in QEMU")
    up.add_argument(
        "--pve",
        metavar="VERSION",
        choices=VERSIONS,
        default="8.4",
        help=f"Imitate PVE {', '.join(VERSIONS)} (default: 8.4)",
    )
    up.add_argument("--nodes", metavar="N", type=int, choices=range(1, 17), default=3, help="Run N nodes (default: 3)")
    up.add_argument(
        "--beside",
        metavar="NAME",
        action="append",
        default=[],
        help="Run another hypervisor in the same network, with this profile",
    )
    up.add_argument("--realistic", action="store_true", help="Take as long as a small cluster does")
    up.add_argument(
        "--port", type=port, default=PORT, help=f"Serve the first node here (default: {PORT}, or any free port)"
    )
    add_json(actions.add_parser("status", help="Show whether the lab runs, where, and its contents"))
    actions.add_parser("down", help="Stop the lab and all of its guests")
    actions.add_parser("reset", help="Remove everything from the lab")
    power = actions.add_parser("power", help="Take the power from a node and its guests, or give it back")
    power.add_argument("node", metavar="NODE")
    power.add_argument("power", choices=("off", "on"))
    inside = actions.add_parser("exec", help="Run a command in the lab's network, such as curl to a guest")
    inside.add_argument("command_words", metavar="COMMAND", nargs=argparse.REMAINDER)
    actions.add_parser("log", help="Print the lab's log")
    image = actions.add_parser("image", help="Build the images for QEMU guests")
    image.add_argument("--disk", action="store_true", help="Build a disk image of an installed system")
    screenshot = actions.add_parser("screenshot", help="Save a picture of a QEMU guest's display")
    screenshot.add_argument("vmid", metavar="VMID", type=int)
    screenshot.add_argument(
        "file", metavar="FILE", type=Path, nargs="?", help="Write this PNG file (default: VMID.png)"
    )


def port(text: str) -> int:
    number = int(text)
    if not 0 <= number < 65536:
        raise argparse.ArgumentTypeError("must be a port: 1 to 65535, or 0 for any that is free")
    return number


def run(args: argparse.Namespace, screen: Screen) -> int:
    missing = [name for name in ("aiohttp", "asyncssh") if find_spec(name) is None]
    if missing:
        raise ConfigError(
            f"the lab needs the Python packages {' and '.join(missing)}",
            hint="pip install '.[lab]' in a checkout of nixops-proxmox",
        )
    actions: dict[str, Callable[[argparse.Namespace, Screen], int]] = {
        "up": run_up,
        "status": run_status,
        "down": run_down,
        "reset": run_reset,
        "power": run_power,
        "exec": run_exec,
        "log": run_log,
        "image": run_image,
        "screenshot": run_screenshot,
    }
    from nixops_proxmox.lab.service import ServiceError

    try:
        return actions[args.action](args, screen)
    except ServiceError as error:
        hint = f"its last output:\n{error.log}" if error.log else ""
        raise LabError(str(error), hint=hint) from error


def directory(args: argparse.Namespace) -> Path:
    return paths.state_dir() / "labs" / named(args.name)


def named(name: str) -> str:
    if not name.replace("-", "").isalnum():
        raise ConfigError(f"{name!r} cannot be a lab's name", hint="letters, digits and - please")
    return name


def image_cache() -> Path:
    """Where the installer's image is kept. All labs share it, and it is made again if it is deleted."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "nixops-proxmox" / "lab-image"


def get_running(args: argparse.Namespace) -> "LabProcess":
    from nixops_proxmox.lab.service import find_running

    running = find_running(directory(args))
    if running is None:
        raise LabError(f"the lab {args.name!r} is not up", hint=f"start it: {up_command(args.name)}")
    return running


def up_command(name: str) -> str:
    return f"nixops-proxmox lab{'' if name == NAME else f' --name {name}'} up"


# --- up and down ----------------------------------------------------------------------------------------------------


def run_up(args: argparse.Namespace, screen: Screen) -> int:
    from nixops_proxmox.lab.service import Settings, find_running, up

    guests = "qemu" if args.qemu else "simulated"
    settings = Settings(
        driver=guests,
        version=args.pve,
        nodes=tuple(f"pve{number}" for number in range(1, args.nodes + 1)),
        port=args.port,
        taken="other",
        realistic=args.realistic,
        image_cache=str(image_cache()) if args.qemu else "",
        beside=tuple(named(name) for name in dict.fromkeys(args.beside) if name != args.name),
    )
    before = find_running(directory(args))
    if before is not None and before.settings.driver != guests and (args.qemu or args.simulated):
        raise LabError(
            f"the lab {args.name!r} is already up, with {before.settings.driver} guests",
            hint="nixops-proxmox lab down, and then up again; everything in it is lost",
        )
    with screen.busy(f"starting the lab with {guests} guests"):
        running = up(directory(args), settings, timeout=UP_SECONDS[guests], tell=lambda line: tell(screen, line))
    write_profiles(args, running)
    screen.say(f"the lab is up: Proxmox VE {running.settings.version}, {running.settings.driver} guests, {running.url}")
    screen.say(f"its profile is {args.name!r}: nixops-proxmox --profile {args.name} deploy")
    return 0


def profiles_file() -> Path:
    from nixops_proxmox.pve.wire.profiles import profiles_file as file

    return file()


def write_profiles(args: argparse.Namespace, running: "LabProcess") -> None:
    """For each hypervisor of the lab. Its first node is asked first, and another one if that has no power."""
    from nixops_proxmox.lab.service import NAMESPACE

    network = {"namespace": str(directory(args) / NAMESPACE)} if running.namespace else {}
    urls = [running.url, *(url for url in running.urls.values() if url != running.url)]
    told = {args.name: (urls, running.token, running.fingerprint)}
    told |= {name: ([one.url], one.token, one.fingerprint) for name, one in running.beside.items()}
    for name, (found, token, fingerprint) in told.items():
        url = found if len(found) > 1 else found[0]
        write_profile(profiles_file(), name, {"url": url, "token": token, "fingerprint": fingerprint, **network})


def tell(screen: Screen, line: str) -> None:
    """A line of the lab's log: what it says, without time and level."""
    _, _, said = line.partition(" INFO ")
    if said or screen.verbosity:
        screen.say(f"lab: {said or line}")


def run_down(args: argparse.Namespace, screen: Screen) -> int:
    from nixops_proxmox.lab.service import down

    screen.say("the lab is down" if down(directory(args)) else "the lab was not up")
    return 0


def run_reset(args: argparse.Namespace, screen: Screen) -> int:
    from nixops_proxmox.lab.service import reset

    running = reset(directory(args), timeout=UP_SECONDS["qemu"])
    if running is not None:
        write_profiles(args, running)
    screen.say("the lab is empty" + ("" if running else ", and not up"))
    return 0


def run_power(args: argparse.Namespace, screen: Screen) -> int:
    running = get_running(args)
    nodes = ask(running, "state")["nodes"]
    if args.node not in nodes:
        raise LabError(f"the lab has no node {args.node!r}", hint=f"its nodes: {', '.join(nodes)}")
    ask(running, "power", {args.node: args.power == "on"})
    screen.say(f"{args.node}: {args.power}")
    return 0


def run_image(args: argparse.Namespace, screen: Screen) -> int:
    from nixops_proxmox.lab.image import ImageFailed, build_disk, build_image

    try:
        cache = image_cache()
        file = build_disk(cache, screen.say) if args.disk else build_image(cache, screen.say).iso
    except ImageFailed as error:
        raise LabError(f"the image could not be built: {error}") from error
    screen.result(str(file))
    return 0


# --- looking --------------------------------------------------------------------------------------------------------


def run_status(args: argparse.Namespace, screen: Screen) -> int:
    from nixops_proxmox.lab.service import find_running

    running = find_running(directory(args))
    if running is None:
        screen.json(NoLabJson(up=False)) if args.json else screen.say(
            f"the lab is not up; start it: {up_command(args.name)}"
        )
        return 0
    state = ask(running, "state")
    calls = len(ask(running, "calls"))
    if args.json:
        found: LabJson = {
            "up": True,
            "url": running.url,
            "pve": running.settings.version,
            "guests": running.settings.driver,
            "nodes": state["nodes"],
            "calls": calls,
            "vms": state["vms"],
        }
        screen.json(found)
        return 0
    since = moment_text(running.since)
    screen.result(f"up since {since}: Proxmox VE {running.settings.version}, {running.settings.driver} guests")
    screen.result(f"{running.url}, {calls} API calls so far; root@pam's password: {running.root_password}")
    rows = [[vmid, vm["name"] or "-", vm["node"], vm["status"]] for vmid, vm in sorted(state["vms"].items())]
    if rows:
        screen.table(("vmid", "name", "node", "status"), rows)
    return 0


def ask(running: "LabProcess", what: str, order: Any = None) -> Any:
    """The lab's own door beside the API, over the same TLS. It is open while nodes are off."""
    request = urllib.request.Request(  # noqa: S310 -- the lab's URL is https
        f"{running.url}/lab/{what}",
        data=None if order is None else json.dumps(order).encode(),
        headers={"Authorization": f"Bearer {running.control_token}"},
    )
    trust = ssl.create_default_context(cafile=running.ca_file)
    try:
        with urllib.request.urlopen(request, timeout=30, context=trust) as answer:  # noqa: S310
            return json.load(answer)
    except (OSError, ValueError, urllib.error.URLError) as error:
        raise LabError(f"the lab does not answer: {error}", hint="nixops-proxmox lab log") from error


def run_log(args: argparse.Namespace, screen: Screen) -> int:
    from nixops_proxmox.lab.service import log_tail

    screen.result_lines([Line(line) for line in log_tail(directory(args), 1_000_000).split("\n")])
    return 0


def run_exec(args: argparse.Namespace, screen: Screen) -> int:
    words = args.command_words[1:] if args.command_words[:1] == ["--"] else args.command_words
    running = get_running(args)
    os.environ[INSIDE_VARIABLE] = str(running.namespace)
    sys.stdout.flush()
    return become(running.enter_argv(words or [os.environ.get("SHELL", "/bin/sh")]), screen)


def run_screenshot(args: argparse.Namespace, screen: Screen) -> int:
    from nixops_proxmox.lab.machines.qemu.argv import MONITOR_TOO
    from nixops_proxmox.lab.machines.qemu.monitor import ask_at_once

    get_running(args)
    monitor = next(directory(args).glob(f"**/{args.vmid}/{MONITOR_TOO}"), None)
    if monitor is None:
        raise LabError(f"VM {args.vmid} is not running in QEMU here", hint="nixops-proxmox lab status")
    picture = monitor.with_name("screen.png")
    try:
        ask_at_once(monitor, "screendump", {"filename": picture.name, "format": "png"})
        target = args.file or Path(f"{args.vmid}.png")
        target.write_bytes(picture.read_bytes())
    except (OSError, ValueError) as error:
        raise LabError(f"VM {args.vmid}: could not take a picture: {error}") from error
    screen.result(str(target))
    return 0
