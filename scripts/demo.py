"""The demos: machines on the lab, from nothing to services that answer, and away again; each checks what it shows.

Everything that a demo makes is in a scratch folder with a HOME of its own, and is gone at the end, however it ends.
"""

import argparse
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import FrameType, ModuleType
from typing import NoReturn

import forge
import laboratory
import three_machines
from stage import Demo, DemoFailed, say, tool_argv
from timeline import as_svg, as_text

# Each has NETWORK and run().
STORIES: dict[str, ModuleType] = {"machines": three_machines, "forge": forge, "laboratory": laboratory}
WORTH_SHOWING = 0.1  # seconds: what took less is only in the picture


def show_timeline(demo: Demo, file: Path | None) -> None:
    if file is None:  # a name of its own: /tmp is shared
        file = Path(tempfile.mkstemp(prefix="nixops-proxmox-demo.", suffix=".svg")[1])
    rows = [span for span in demo.spans if span.row == "demo"]
    long = [span for span in demo.spans if span.row != "demo" and span.seconds >= WORTH_SHOWING]
    say("\n" + as_text([*rows, *long]))
    file.write_text(as_svg(demo.spans, f"nixops-proxmox demo, {demo.guests} guests"), encoding="utf-8")
    say(f"the same as a picture: {file}")


def choose_guests(arguments: argparse.Namespace) -> str:
    """Real guests where everything that they need is at hand; simulated ones where it is not, or when asked for."""
    if arguments.simulated or arguments.qemu:
        return "simulated" if arguments.simulated else "qemu"
    missing = missing_for_qemu()
    if missing:
        say(f"simulated guests, for real ones need what is not installed here: {', '.join(missing)}")
    return "simulated" if missing else "qemu"


def missing_for_qemu() -> list[str]:
    """What real guests need and this machine does not have."""
    from nixops_proxmox.lab.image.build import missing_tools

    programs = [name for name in ("qemu-system-x86_64", "qemu-img", "dnsmasq") if shutil.which(name) is None]
    return [*programs, *missing_tools()]


def clean_up(demo: Demo) -> None:
    """End the lab, in whatever state it is, and remove the scratch folder."""
    subprocess.run(tool_argv("lab", "down"), env=demo.environment, check=False, capture_output=True, timeout=60)
    for path in demo.scratch.rglob("*"):  # Nix makes its store's folders read-only
        if path.is_dir() and not path.is_symlink():
            path.chmod(0o700)
    shutil.rmtree(demo.scratch, ignore_errors=True)


def interrupted(number: int, _frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt(signal.Signals(number).name)


def main(words: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="scripts/demo", description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "story", nargs="?", default="machines", choices=sorted(STORIES), help="what to show (default: machines)"
    )
    kind = parser.add_mutually_exclusive_group()
    kind.add_argument("--simulated", action="store_true", help="simulated guests: quicker, and no QEMU needed")
    kind.add_argument("--qemu", action="store_true", help="real guests in QEMU (the default where there is one)")
    parser.add_argument("--timeline", type=Path, metavar="FILE", help="where to draw what took how long, as an SVG")
    arguments = parser.parse_args(words)
    signal.signal(signal.SIGTERM, interrupted)
    signal.signal(signal.SIGHUP, interrupted)
    story = STORIES[arguments.story]
    demo = Demo(Path(tempfile.mkdtemp(prefix="nixops-proxmox-demo.")), choose_guests(arguments), story.NETWORK)
    try:
        story.run(demo)
        show_timeline(demo, arguments.timeline)
    except DemoFailed as error:
        say(f"error: the demo failed: {error}")
        return 1
    except KeyboardInterrupt:
        say("interrupted")
        return 130
    finally:
        clean_up(demo)
    say("\nThat was it: nothing is left of it on this machine.")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
