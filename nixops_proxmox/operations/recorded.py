"""Things as the record has them."""

from nixops_proxmox.core.kind import Known, Presence, Thing
from nixops_proxmox.errors import StateError
from nixops_proxmox.model import Facts
from nixops_proxmox.spec import MachineSpec
from nixops_proxmox.state import Stored


def recorded_thing(deployment: str, kind: str, name: str, stored: Stored | None) -> Thing:
    """The thing; without a record, it is absent. Raises StateError for a record that cannot be read."""
    thing = Thing(kind, deployment, name)
    if stored is None:
        return thing
    try:
        return thing.moved(Presence(stored.phase), Known.from_json(stored.facts))
    except (TypeError, ValueError) as error:
        raise StateError(
            f"the record of the {kind} {name} cannot be read: {error}",
            hint="upgrade nixops-proxmox, or restore the state from a backup",
        ) from error


def where_it_is(spec: MachineSpec, facts: Facts) -> MachineSpec:
    """What leaves the hardware as it is works where the machine is, wherever it is described."""
    return spec.model_copy(update={"profile": facts.profile}) if facts.profile else spec
