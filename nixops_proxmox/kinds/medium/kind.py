"""The four functions of a medium. A file is believed only if it has the size of ours; its name holds the hash."""

from collections.abc import Sequence
from dataclasses import replace

from nixops_proxmox.core.engine import TASK
from nixops_proxmox.core.kind import Known, Thing, three_rows
from nixops_proxmox.core.table import Attempt
from nixops_proxmox.errors import NotFound, StateError, TaskFailed
from nixops_proxmox.kinds.medium.ports import World
from nixops_proxmox.pve.cluster.media import DELETION

NAME = "medium"
ABOUT = "an ISO or an image on a storage"


class MediumKind:
    name = NAME

    def look(self, world: World, thing: Thing, /) -> int | None:
        """The size of the file on the storage, in bytes."""
        del thing
        return size_there(world)

    def diff(self, world: World, found: int, /) -> Sequence[str]:
        """An upload that was cut off while PVE copied the file leaves a part of it under its full name."""
        size = world.medium.size
        return () if found == size else (f"{found} bytes are there, of {size}",)

    def apply(self, world: World, thing: Thing, attempt: Attempt[Thing, Known], /) -> Known:
        medium = world.medium
        attempt.note(replace(attempt.facts, values=medium.values))
        settle(world, thing)
        if size_there(world) != medium.size:
            # Safe to repeat: PVE replaces what has this name, and only our content can have it.
            world.media.upload(
                medium.node,
                medium.storage,
                medium.path,
                attempt.note_task,
                content=medium.content,
                filename=medium.name,
                progress=world.progress,
            )
        return attempt.facts

    def remove(self, world: World, thing: Thing, attempt: Attempt[Thing, Known], /) -> Known:
        """StateError for one that a VM has inserted. It does not touch what the record does not show to be ours."""
        medium = world.medium
        if not medium.is_recorded(attempt.facts.values):
            return Known()
        settle(world, thing)
        if size_there(world) is None:
            return Known()
        if users := world.media.users_of(medium.volume, medium.only_node):
            vms = ", ".join(map(str, users))
            raise StateError(
                f"cannot delete {medium.volume}: it is inserted in VM {vms}", hint="eject it there, and try again"
            )
        # A deletion goes on without us, and until its end the file looks as if it stayed: the next run waits first.
        attempt.note(replace(attempt.facts, errand={TASK: DELETION}))
        # Safe to repeat: a file that is gone needs nothing, and we have waited for a deletion that was running.
        world.media.delete(medium.node, medium.volume, attempt.note_task)
        return Known()


def size_there(world: World) -> int | None:
    medium = world.medium
    return world.media.sizes(medium.node, medium.storage, medium.content).get(medium.volume)


def settle(world: World, thing: Thing) -> None:
    """Wait for the tasks that write or delete the file now. Our record may not know them: a run was killed before it
    noted the UPID, or another user uploads the same file. What they did, the next look tells."""
    for upid in world.media.find_tasks(world.medium.node, world.medium.volume):
        world.reporter.detail(thing, "waiting for a task that works on this storage")
        try:
            world.wait_for_task(upid)
        except (TaskFailed, NotFound) as error:
            world.reporter.warn(thing, f"an earlier task did not succeed: {error.message}")


LIFECYCLE = three_rows(MediumKind())
