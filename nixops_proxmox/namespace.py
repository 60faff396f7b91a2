"""The way into a lab's own network: the whole command runs again inside of it, where its addresses mean something."""

import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from shutil import which

from nixops_proxmox.errors import ConfigError
from nixops_proxmox.paths import expanded
from nixops_proxmox.spelling import Verb, command

INSIDE_VARIABLE = "NIXOPS_PROXMOX_INSIDE"  # the namespace we have entered: never twice

ReadLink = Callable[[str], str]  # readlink


def find_holder(namespace: str) -> int:
    """The process whose network it is: from `/proc/PID/ns/net`, or from a file with a PID in it."""
    if found := re.fullmatch(r"/proc/(\d+)(/ns/net)?", namespace):
        return int(found[1])
    try:
        return int(expanded(namespace).read_text(encoding="ascii"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"cannot find the lab's network: {namespace}", hint=_HINT) from error


_HINT = f"start the lab: {command(Verb.LAB_UP)}"


def needs_entering(holder: int, environment: Mapping[str, str], link: ReadLink = os.readlink) -> bool:
    """Is its network another than ours? ConfigError if there is no such process (any more), or if it is not ours."""
    try:
        theirs = link(f"/proc/{holder}/ns/net")
    except PermissionError as error:
        if environment.get(INSIDE_VARIABLE) == str(holder):
            return False  # inside of an unprivileged lab's network we may no longer look at the process that holds it
        raise ConfigError(
            "the lab's network belongs to another user",
            hint="run this as the user who started the lab, or start a lab of your own",
        ) from error
    except OSError as error:
        raise ConfigError("the lab does not run, so its network does not exist", hint=_HINT) from error
    if environment.get(INSIDE_VARIABLE) == str(holder):
        return False
    return theirs != link("/proc/self/ns/net")


def enter_argv(holder: int, argv: Sequence[str], *, oneself: tuple[int, int] | None) -> list[str]:
    """`argv` in the network of `holder`. `oneself`: who we are (user, group), if it is in an unprivileged lab, whose
    user namespace must be entered first. There we would be root in name: Nix and ssh believe it, but have not root's
    rights. So `argv` runs under our own numbers again."""
    enter_user: list[str] = []
    become: list[str] = []
    if oneself is not None:
        enter_user = ["--user", "--preserve-credentials"]
        become = ["unshare", "--user", f"--map-user={oneself[0]}", f"--map-group={oneself[1]}", "--"]
    return ["nsenter", "--target", str(holder), *enter_user, "--net", "--", *become, *argv]


def enter(namespace: str, prepare: Callable[[], Mapping[str, str]] = dict) -> None:
    """Go on inside of the network, as the same command, or return if we are there. `prepare` is called when it is
    certain that this process is replaced, and gives more environment to the one that follows."""
    holder = find_holder(namespace)
    if not needs_entering(holder, os.environ):
        return
    other_user = os.readlink(f"/proc/{holder}/ns/user") != os.readlink("/proc/self/ns/user")  # noqa: PTH115 -- a name, no path
    oneself = (os.geteuid(), os.getegid()) if other_user else None
    argv = enter_argv(holder, [sys.executable, *sys.orig_argv[1:]], oneself=oneself)
    program = which(argv[0])
    if program is None:
        raise ConfigError("there is no nsenter on this computer", hint="install util-linux")
    sys.stdout.flush()
    os.execve(program, argv, {**os.environ, **prepare(), INSIDE_VARIABLE: str(holder)})  # noqa: S606 -- no shell is wanted
