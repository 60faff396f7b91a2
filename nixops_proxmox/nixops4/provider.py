"""The loop: a request line in, a response line out, until standard input ends or somebody says stop."""

import argparse
import logging
import os
import signal
import sys
import traceback
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import IO, NoReturn

from nixops_proxmox import __version__
from nixops_proxmox.errors import DeployError
from nixops_proxmox.namespace import enter
from nixops_proxmox.nixops4 import messages
from nixops_proxmox.nixops4.channel import decode, start_channel
from nixops_proxmox.nixops4.reporter import say
from nixops_proxmox.nixops4.resources import Resources, deployment_of
from nixops_proxmox.nixops4.spelling import spelled_for
from nixops_proxmox.texts import Formatter

PROGRAM = "nixops4-resources-proxmox"
GONE_STATUS = 1


class Stopped(BaseException):
    """SIGTERM or SIGINT: unwinds everything, so that locks are released. What was begun is found again later."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.exit_status = 128 + number


def main(argv: Sequence[str] | None = None) -> int:
    """`nixops4-resources-proxmox`: NixOps 4 starts it, without arguments, once for each resource."""
    parser = argparse.ArgumentParser(
        prog=PROGRAM,
        description="The NixOps 4 resource provider for Proxmox VE: requests on standard input, a JSON object on each"
        " line; responses on standard output, logs on standard error. NixOps starts it: see docs/with-nixops4.md.",
    )
    parser.add_argument("--version", action="version", version=f"{PROGRAM} {__version__}")
    parser.parse_args(argv)
    handler = logging.StreamHandler()
    handler.setFormatter(Formatter("%(levelname)s: %(message)s"))
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    with start_channel() as channel, _stoppable():
        resources = Resources.from_environment(os.environ, enter=partial(enter, prepare=channel.hand_on))
        try:
            return serve(channel.lines, channel.responses, resources)
        except Stopped as stopped:
            say(f"{PROGRAM}: stopped; send the same request again to continue")
            return stopped.exit_status
        except BrokenPipeError:
            say(f"{PROGRAM}: NixOps has gone")
            return GONE_STATUS


def serve(lines: Iterable[bytes], responses: IO[str], resources: Resources) -> int:
    """Answer every line. An error is an answer too, and the next line is served."""
    for line in lines:
        responses.write(answer(line, resources))
        responses.flush()
    return 0


def answer(line: bytes, resources: Resources) -> str:
    """The response, with its line end."""
    request: messages.Request | None = None
    try:
        request = messages.parse_request(decode(line))
        return _answer(request, resources)
    except DeployError as error:
        return messages.failed(error, spelled_for(deployment_of(request)))
    except Exception as error:  # noqa: BLE001 -- the last line of defence: NixOps hears what it was, the log hears where
        say(traceback.format_exc())
        return messages.failed(DeployError(f"a defect in {PROGRAM}: {type(error).__name__}: {error}"))


def _answer(request: messages.Request, resources: Resources) -> str:
    match request:
        case messages.Create():
            return messages.created(resources.create(request))
        case messages.Update():
            return messages.updated(resources.update(request))
        case messages.StateRead():
            return messages.state_read(resources.read_state(request))
        case messages.StateEvent():
            resources.change_state(request)
            return messages.state_changed()


@contextmanager
def _stoppable() -> Iterator[None]:
    """The first signal unwinds. Another one, while that goes on, ends us on the spot."""

    def stop(number: int, _frame: object) -> NoReturn:
        for each in before:
            signal.signal(each, signal.SIG_DFL)
        raise Stopped(number)

    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)}
    before = {number: handler for number, handler in handlers.items() if handler is not signal.SIG_IGN}  # nohup
    for number in before:
        signal.signal(number, stop)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


if __name__ == "__main__":
    sys.exit(main())
