"""What verbs print of machines: where they stand, what was done to them, and who they are."""

from typing import Annotated, Any, NotRequired

from typing_extensions import TypedDict

from nixops_proxmox.messages.shapes.about import About, among
from nixops_proxmox.messages.shapes.plan import ChangeJson, LayoutJson, ResourceJson
from nixops_proxmox.model import Phase, Reach

# As `state` and `operations` have them, which take a while to import.
OUTCOMES = ("running", "done", "failed", "interrupted", "seen")
ORIGINS = ("description", "by hand", "unknown")


class EndpointJson(TypedDict):
    host: Annotated[str, About("an address, or a name")]
    port: Annotated[int, About("the port of its sshd")]
    user: Annotated[str, About("who logs in")]
    jump: Annotated[str, About("the host on the way; empty: there is none")]


class AddressJson(TypedDict):
    ip: Annotated[str, About("the address")]
    reach: Annotated[str, among("from where it can be reached", Reach)]
    interface: Annotated[str, About("the guest's name of it")]
    mac: Annotated[str, About("on which NIC it is")]


class MachineStatusJson(TypedDict):
    machine: Annotated[str, About("its name")]
    phase: Annotated[str, among("where it stands, as recorded: see docs/lifecycle.md", Phase)]
    hypervisor: Annotated[str, About("the profile of its hypervisor")]
    node: Annotated[str, About("the node that it was last seen on")]
    vmid: Annotated[int | None, About("its VM")]
    uuid: Annotated[str, About("its SMBIOS UUID, which marks the VM as ours")]
    macs: Annotated[list[str], About("the MACs of its NICs, in their order")]
    host_key: Annotated[str, About("its public SSH host key")]
    endpoint: Annotated[EndpointJson | None, About("the address that answered last; null: none yet")]
    addresses: Annotated[list[AddressJson], About("each address that the guest has")]
    system: Annotated[str, About("the store path of its system")]
    generation: Annotated[int | None, About("the number of its system in the guest's system profile")]
    encryption: Annotated[
        dict[str, Any] | None,
        About("the recorded key slots of its encrypted disks, by name; null: none is encrypted"),
    ]
    probation: Annotated[
        dict[str, str] | None,
        About("what became of the last system on probation (docs/probation.md); null: there was none"),
    ]
    attempts: NotRequired[
        Annotated[
            list[str],
            About("only if the addresses were tried: a line for each, and why it was taken or not"),
        ]
    ]


class StatusJson(TypedDict):
    deployment: Annotated[str, About("its name")]
    machines: Annotated[list[MachineStatusJson], About("the recorded machines that you name, or all")]
    hypervisors: Annotated[dict[str, list[str]], About("names of machines by profile")]


HistoryEntryJson = TypedDict(
    "HistoryEntryJson",
    {
        "id": Annotated[int, About("the number of the entry")],
        "machine": Annotated[str, About("the name of the machine or resource")],
        "kind": Annotated[str, About("`machine`, or the kind of the resource")],
        "label": Annotated[str, About("what was done")],
        "from": Annotated[str, About("the phase before")],
        "to": Annotated[str, About("the phase after")],
        "began": Annotated[float, About("seconds since the epoch")],
        "ended": Annotated[float | None, About("seconds since the epoch; null: it was cut off, or goes on")],
        "outcome": Annotated[str, among("how it ended", OUTCOMES)],
        "error": Annotated[str, About("the message, if it failed")],
        "tasks": Annotated[list[str], About("the UPIDs of PVE's tasks")],
    },
)


class HistoryJson(TypedDict):
    history: Annotated[list[HistoryEntryJson], About("the oldest comes first")]


class DriftTaskJson(TypedDict):
    upid: Annotated[str, About("PVE's name of it")]
    user: Annotated[str, About("who started it")]
    started: Annotated[float, About("seconds since the epoch")]


DriftJson = TypedDict(
    "DriftJson",
    {
        "key": Annotated[str, About("PVE's key of the change")],
        "origin": Annotated[str, among("where the difference comes from", ORIGINS)],
        "tasks": Annotated[list[DriftTaskJson], About("the tasks that may have made it")],
        "accept": Annotated[str | None, About("the line of Nix that describes it as it is; null: none does")],
        "described in": Annotated[str | None, About("the file and line that describe it now; null: unknown")],
    },
)


class MachineCheckJson(TypedDict):
    machine: Annotated[str, About("its name")]
    phase: Annotated[str, among("where it stands", Phase)]
    exists: Annotated[bool | None, About("whether its VM is there; null: it could not be told")]
    running: Annotated[bool | None, About("whether that runs; null: it could not be told")]
    reachable: Annotated[bool | None, About("whether it answers as itself; null: it could not be told")]
    system_ok: Annotated[bool | None, About("whether the wanted system is active; null: it could not be told")]
    changes: Annotated[list[ChangeJson], About("what differs")]
    drift: Annotated[list[DriftJson], About("who made the differences")]
    pending: Annotated[list[str], About("keys that wait for a stop and start")]
    layout: Annotated[LayoutJson | None, About("how its disks differ from the description; null: they do not")]
    problems: Annotated[list[str], About("what else is wrong, a sentence each")]
    ok: Annotated[bool, About("true: all is as described")]


class ChecksJson(TypedDict):
    machines: Annotated[list[MachineCheckJson], About("the machines that you name, or all")]
    resources: Annotated[list[ResourceJson], About("everything else that is described or recorded")]


class GenerationJson(TypedDict):
    generation: Annotated[int, About("its number")]
    system: Annotated[str, About("its store path")]
    active: Annotated[bool, About("true: it runs")]


class GenerationsJson(TypedDict):
    machine: Annotated[str, About("its name")]
    generations: Annotated[list[GenerationJson], About("those that the guest has")]


class DestroyedJson(TypedDict):
    machine: Annotated[str, About("its name")]
    uuid: Annotated[str | None, About("its SMBIOS UUID; null: it had none yet")]
    vmid: Annotated[int | None, About("its VM; null: it had none yet")]
    node: Annotated[str | None, About("where that was")]
    destroyed: Annotated[bool, About("false: something kept it")]
    error: Annotated[str | None, About("what kept it; null: nothing")]


class DestroyedMachinesJson(TypedDict):
    """What `destroy` did."""

    machines: Annotated[list[DestroyedJson], About("each machine as it was; empty: nothing was done")]


class ForgottenJson(TypedDict):
    """What `destroy --forget` did."""

    forgotten: Annotated[list[str], About("names of machines; empty: you did not agree")]


class NextIdentityJson(TypedDict):
    host_key: Annotated[str, About("its public SSH host key")]
    age: Annotated[str | None, About("the same as a recipient of age; null: age has none of such keys")]


class IdentityJson(TypedDict):
    machine: Annotated[str, About("its name")]
    uuid: Annotated[str, About("its SMBIOS UUID")]
    host_key: Annotated[str, About("its public SSH host key")]
    age: Annotated[str | None, About("the same as a recipient of age; null: age has none of such keys")]
    known_hosts: Annotated[str, About("lines for a known_hosts file")]
    new: Annotated[bool, About("true: the machine does not exist yet")]
    next: Annotated[NextIdentityJson | None, About("the key that replaces it; null: none is prepared")]


class IdentitiesJson(TypedDict):
    identities: Annotated[list[IdentityJson], About("the machines that you name, or all")]


MacJson = TypedDict(
    "MacJson",
    {
        "machine": Annotated[str, About("its name")],
        "nic": Annotated[str, About("its NIC: `net0`, …")],
        "mac": Annotated[str | None, About("its MAC; null: it has none yet")],
        "from": Annotated[str, About("where the MAC comes from")],
        "host": Annotated[str | None, About("the name that goes with it; null: none")],
        "addresses": Annotated[list[str], About("the addresses that go with it")],
        "elsewhere": Annotated[str | None, About("what else has the MAC; null: nothing was found")],
    },
)


class MacsJson(TypedDict):
    macs: Annotated[list[MacJson], About("each NIC of each machine")]
