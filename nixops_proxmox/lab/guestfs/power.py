"""reboot, poweroff and systemctl: process 1 is told, and the lab does the rest."""

from __future__ import annotations

import os
import signal
import subprocess
import time

from nixops_proxmox.lab.guestfs.disks import ToolError, say

VERBS = {"reboot": signal.SIGUSR1, "poweroff": signal.SIGUSR2, "halt": signal.SIGUSR2, "kexec": signal.SIGUSR1}


def power(verb: str) -> None:
    os.sync()
    os.kill(1, VERBS[verb])


def reboot(_: list[str]) -> None:
    power("reboot")


def poweroff(_: list[str]) -> None:
    power("poweroff")


def shutdown(argv: list[str]) -> None:
    """`shutdown [-r|-h|-P] now|+0`; a later time is not kept."""
    if "-c" in argv:
        return
    power("reboot" if "-r" in argv else "poweroff")


def systemctl(argv: list[str]) -> None:
    words = [word for word in argv if not word.startswith("-")]
    verb, names = (words or ["status"])[0], [word.removesuffix(".service") for word in words[1:]]
    if verb in VERBS:
        power(verb)
    elif verb == "is-system-running":
        say("running")
    elif verb in ("start", "restart", "stop"):
        for name in names:
            act_on(verb, name)
    elif verb in ("is-active", "status", "is-failed"):
        report(verb, names)
    elif verb not in ("daemon-reload", "daemon-reexec", "enable", "disable", "list-units", "reset-failed"):
        raise ToolError(f"Unknown command verb {verb}.")


def service_pid(name: str) -> int | None:
    """The process of a service that runs."""
    if name in ("sshd", "qemu-guest-agent", "multi-user.target", "network-online.target"):
        return 1
    try:
        with open(f"/run/services/{name}.pid", encoding="utf-8") as file:
            pid = int(file.read())
        os.kill(pid, 0)
    except (OSError, ValueError):
        return None
    return pid


def act_on(verb: str, name: str) -> None:
    pid = service_pid(name)
    if name == "sshd" and verb == "restart":
        os.kill(1, signal.SIGHUP)
    if verb in ("stop", "restart") and pid is not None and pid != 1:
        os.killpg(pid, signal.SIGTERM)
        deadline = time.monotonic() + 5
        while service_pid(name) is not None and time.monotonic() < deadline:
            time.sleep(0.02)
    if verb in ("start", "restart") and pid != 1:
        if not os.path.exists(f"/run/current-system/services/{name}"):
            raise ToolError(f"Failed to {verb} {name}.service: Unit {name}.service not found.", 5)
        subprocess.run(["lab-services", "switch", "/run/current-system"], stdout=subprocess.DEVNULL, check=True)


def report(verb: str, names: list[str]) -> None:
    states = ["active" if service_pid(name) is not None else "inactive" for name in names]
    for name, state in zip(names, states, strict=True):
        say(state if verb != "status" else f"{name}.service: {state}")
    if "inactive" in states:
        raise ToolError("", 3)
