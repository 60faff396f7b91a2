"""What this computer must have: Nix, OpenSSH, a state that can be used. One finding each."""

import re
import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence

from nixops_proxmox.errors import DeployError
from nixops_proxmox.model import Finding, Level

Find = Callable[[str], str | None]  # shutil.which
Ask = Callable[[Sequence[str]], str]  # what a program prints

OLDEST_SSH = (7, 3)  # ProxyJump


def find_all(locate_state: Callable[[], str], programs: Mapping[str, str]) -> list[Finding]:
    """`locate_state`: where the state is, or an error about it. `programs`: what a door needs beside, and what for."""
    others = [find_program(name, why) for name, why in programs.items()]
    return [find_nix_version(), *find_ssh(), *others, find_state(locate_state)]


def find_program(name: str, why: str, find: Find = shutil.which) -> Finding:
    """Something that only some doors need."""
    if find(name) is None:
        return Finding(Level.WARNING, name, f"there is no {name} on this computer: {why}", f"install {name}")
    return Finding(Level.OK, name, "is here")


def find_nix_version() -> Finding:
    from nixops_proxmox.nixeval.tools import get_nix

    try:
        nix = get_nix()
    except DeployError as error:
        return Finding(Level.PROBLEM, "Nix", error.message, error.hint)
    return Finding(Level.OK, "Nix", f"{'.'.join(map(str, nix.version))} in {nix.directory}")


def ask_version(argv: Sequence[str]) -> str:
    try:
        done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    return done.stdout + done.stderr


def find_ssh(find: Find = shutil.which, ask: Ask = ask_version) -> list[Finding]:
    missing = [program for program in ("ssh", "scp") if find(program) is None]
    if missing:
        return [
            Finding(Level.PROBLEM, "OpenSSH", f"there is no {' and no '.join(missing)}", "install OpenSSH's client")
        ]
    said = ask(["ssh", "-V"]).strip()
    version = re.search(r"OpenSSH_(\d+)\.(\d+)", said)
    if version is None:
        return [Finding(Level.WARNING, "OpenSSH", f"this is some other ssh: {said}", "OpenSSH is what was tried")]
    if (int(version[1]), int(version[2])) < OLDEST_SSH:
        return [Finding(Level.PROBLEM, "OpenSSH", f"{said} is too old", "at least 7.3 is needed, for jump hosts")]
    return [Finding(Level.OK, "OpenSSH", said.partition(",")[0])]


def find_state(locate: Callable[[], str]) -> Finding:
    from nixops_proxmox.state import open_state

    try:
        with open_state(locate()) as state:
            names = state.deployments()
            return Finding(Level.OK, "state", f"{state.title}, with {', '.join(names) or 'no deployment yet'}")
    except DeployError as error:
        return Finding(Level.PROBLEM, "state", error.message, error.hint)
