"""The right to change one thing, for a run that is about another one."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

from nixops_proxmox.core.graph import Ref
from nixops_proxmox.core.ports import Clock
from nixops_proxmox.errors import Locked
from nixops_proxmox.state.record import DeploymentRecord

LOCK_SECONDS = 120.0  # how long we wait for a run that is about a thing which we only put right
LOCK_POLL_SECONDS = 1.0


@contextmanager
def hold_thing(record: DeploymentRecord, ref: Ref, lease: Any, clock: Clock) -> Iterator[Any]:
    """Locked, which says who has it, if that takes too long."""
    with ExitStack() as stack:
        yield _wait_for_right(record, ref, lease, clock, stack)


def _wait_for_right(record: DeploymentRecord, ref: Ref, lease: Any, clock: Clock, stack: ExitStack) -> Any:
    deadline = clock.now() + LOCK_SECONDS
    while clock.now() < deadline:
        with suppress(Locked):
            return stack.enter_context(record.holding(ref.kind, ref.name, lease))
        clock.sleep(LOCK_POLL_SECONDS)
    return stack.enter_context(record.holding(ref.kind, ref.name, lease))
