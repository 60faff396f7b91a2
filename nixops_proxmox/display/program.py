"""The end of a command: its exit status, and every error in words."""

import errno
import os
import select
import signal
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress

from nixops_proxmox.display.screen import Screen
from nixops_proxmox.display.signals import Ended, end, handled, status_of
from nixops_proxmox.errors import USAGE_STATUS, ConfigError, DeployError
from nixops_proxmox.messages.explaining import explain
from nixops_proxmox.messages.lines import Line
from nixops_proxmox.messages.reading import read_on
from nixops_proxmox.spelling import PROGRAM
from nixops_proxmox.texts import head

DEFECT_STATUS = 70  # sysexits' EX_SOFTWARE
HINTS = {  # what the system says of a file, and what mends it
    errno.ENOSPC: "the disk is full: make room, and run the same command again",
    errno.EDQUOT: "your quota is used up: make room, and run the same command again",
    errno.EFBIG: "files may not be that large here (ulimit -f): raise the limit, and run the same command again",
    errno.EROFS: "the file system is read-only: mount it writable, or set XDG_STATE_HOME to another place",
    errno.EACCES: "you have no permission: change its owner or mode, or use another place",
    errno.EPERM: "you have no permission: change its owner or mode, or use another place",
    errno.ENAMETOOLONG: "give a shorter path",
}


def told_in_words(work: Callable[[], int], screen: Screen, command: str) -> int:
    """Do `work` to its exit status. `command`: what the user typed."""
    try:
        with handled(end):
            status = work()
        sys.stdout.flush()
    except DeployError as error:
        if screen.verbosity > 1:
            screen.show([Line(traceback.format_exc(), "dim")])
        screen.show([*explain(error), *read_on([error])])
        return error.exit_status
    except KeyboardInterrupt as interrupt:
        screen.show([Line(f"interrupted; run the same command to continue: {command}", "yellow")])
        return status_of(interrupt.number if isinstance(interrupt, Ended) else signal.SIGINT)
    except OSError as error:
        if isinstance(error, BrokenPipeError) and _nobody_reads_stdout():
            _silence_stdout()
            return status_of(signal.SIGPIPE)
        if error.filename is None and error.errno not in HINTS:
            _show_defect(error, screen)
            return DEFECT_STATUS
        screen.show(explain(_no_file(error)))
        return USAGE_STATUS
    except Exception as error:  # noqa: BLE001 -- the last line of defence: a defect is named, not dumped
        _show_defect(error, screen)
        return DEFECT_STATUS
    return status


def _no_file(error: OSError) -> ConfigError:
    """Tell the user what the system refuses to do with a file: it is no defect of ours."""
    name = os.fsdecode(error.filename) if isinstance(error.filename, str | bytes) else ""
    told = head(name, 160)
    what = f"{told}: " if told else ""
    return ConfigError(f"{what}{error.strerror or error}", hint=HINTS.get(error.errno or 0, ""))


def _show_defect(error: Exception, screen: Screen) -> None:
    if screen.verbosity > 1:
        screen.show([Line(traceback.format_exc(), "dim")])
    screen.show([Line(f"error: a defect in {PROGRAM}: {type(error).__name__}: {error}", "bold red")])
    if screen.verbosity < 2:
        screen.show([Line("hint: please report it, with the output of -vv", "yellow")])


def _nobody_reads_stdout() -> bool:
    """Is it our results that found no reader? A pipe to a program that we started may break, too: that is a failure."""
    watch = select.poll()
    try:
        watch.register(sys.stdout.fileno(), 0)  # errors are told without being asked for
    except OSError:
        return False  # it is no file at all
    return bool(watch.poll(0))


def _silence_stdout() -> None:
    """Python flushes stdout once more at its end, and would complain."""
    with suppress(OSError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
