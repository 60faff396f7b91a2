"""Pure: what a disk that is moved to another storage leaves behind is remembered until it has been deleted."""

import re
from collections.abc import Iterable
from dataclasses import replace

from nixops_proxmox.model import OLD_COPY, Change, Facts, Vm, old_copies


def with_copies(facts: Facts, vm: Vm, changes: Iterable[Change]) -> Facts:
    """Before disks are moved: the volumes that they will leave, whose they are, and how large."""
    left = {
        f"{OLD_COPY}{change.leaves}": f"{change.key} {_size(vm.config.get(change.key, ''))}"
        for change in changes
        if change.leaves and not change.forbidden
    }
    return replace(facts, extra={**facts.extra, **left}) if left else facts


def _size(drive: str) -> str:
    found = re.search(r"(?:^|,)size=([^,]+)", drive)
    return found[1] if found else ""


def without_dropped(facts: Facts, vm: Vm) -> Facts:
    """Without the volumes that were deleted: PVE gives their names to others. A disk's new volume is as much its own as
    the old one was."""
    detached = {value for key, value in vm.config.items() if key.startswith("unused")}
    volumes, gone = dict(facts.volumes), set()
    for copy in old_copies(facts):
        now = vm.config.get(copy.slot, "").partition(",")[0]
        if copy.volume in detached or copy.volume == now:
            continue
        gone.add(f"{OLD_COPY}{copy.volume}")
        if volumes.get(copy.slot) == copy.volume and now:
            volumes[copy.slot] = now
    extra = {key: value for key, value in facts.extra.items() if key not in gone}
    return replace(facts, extra=extra, volumes=volumes)


def without_copies(facts: Facts) -> Facts:
    """Forget them: after a restore or a rollback, a volume of such a name may be another one, so it is kept."""
    return replace(facts, extra={key: value for key, value in facts.extra.items() if not key.startswith(OLD_COPY)})
