"""The loop: a request line in, a response line out, until standard input ends or somebody says stop."""

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, NoReturn

from nixops_proxmox.errors import DeployError
from nixops_proxmox.nixops4 import messages
from nixops_proxmox.nixops4.resources import Resources


class Stopped(BaseException):
    """SIGTERM or SIGINT: unwinds everything, so that locks are released; what was begun is found again later."""


def main() -> int:
    """`nixops4-resources-proxmox`: standard output is for responses alone, whatever libraries may print."""
    with _own_pipes() as (requests, responses), _stoppable():
        try:
            return serve(requests, responses, Resources.from_environment(os.environ))
        except Stopped:
            print("nixops4-resources-proxmox: stopped; the next run goes on from here", file=sys.stderr)  # noqa: T201
            return 128 + signal.SIGTERM
        except BrokenPipeError:
            print("nixops4-resources-proxmox: NixOps has gone", file=sys.stderr)  # noqa: T201
            return 1


def serve(requests: IO[str], responses: IO[str], resources: Resources) -> int:
    """Answer every line; an error is an answer too, and the next line is served."""
    for line in iter(lambda: requests.readline(messages.LONGEST), ""):
        if not line.strip():
            continue
        responses.write(answer(line, resources))
        responses.flush()
    return 0


def answer(line: str, resources: Resources) -> str:
    try:
        request = messages.parse_request(line)
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
    except DeployError as error:
        return messages.failed(error)


@contextmanager
def _own_pipes() -> Iterator[tuple[IO[str], IO[str]]]:
    """The channels, on descriptors of their own: 0 becomes /dev/null and 1 becomes standard error."""
    channel_in, channel_out = os.dup(0), os.dup(1)
    with open(os.devnull, "rb") as nothing:  # noqa: PTH123  # a device, not a path of anybody's
        os.dup2(nothing.fileno(), 0)
    os.dup2(2, 1)
    requests = os.fdopen(channel_in, encoding="utf-8", errors="replace")
    responses = os.fdopen(channel_out, "w", encoding="utf-8")
    try:
        yield requests, responses
    finally:
        requests.close()
        try:
            responses.close()
        except BrokenPipeError:
            sys.stderr.write("nixops4-resources-proxmox: the last answer was not read\n")


@contextmanager
def _stoppable() -> Iterator[None]:
    def stop(_number: int, _frame: object) -> NoReturn:
        raise Stopped

    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


if __name__ == "__main__":
    sys.exit(main())
