"""What verbs print of hypervisors: what was found on them, their profiles, what can be taken over, and the lab."""

from typing import Annotated, Any, Literal, NotRequired

from typing_extensions import TypedDict

from nixops_proxmox.messages.shapes.about import About, among
from nixops_proxmox.model import Level


class FindingJson(TypedDict):
    level: Annotated[str, among("how bad it is", Level)]
    subject: Annotated[str, About("what it is about")]
    text: Annotated[str, About("what was found")]
    hint: Annotated[str, About("what to do; empty: nothing")]


class FindingsJson(TypedDict):
    findings: Annotated[list[FindingJson], About("all that was looked at")]


class OfferedNodeJson(TypedDict):
    name: Annotated[str, About("its name")]
    online: Annotated[bool, About("whether it runs")]
    memoryFree: Annotated[int | None, About("in bytes; null: unknown")]


class OfferedStorageJson(TypedDict):
    name: Annotated[str, About("its name")]
    type: Annotated[str, About("PVE's type of it")]
    content: Annotated[list[str], About("what it may hold")]
    nodes: Annotated[list[str], About("the nodes that have it")]
    free: Annotated[int, About("in bytes")]


class OfferJson(TypedDict):
    pve: Annotated[str, About("the version of Proxmox VE")]
    nodes: Annotated[list[OfferedNodeJson], About("the nodes of the cluster")]
    storages: Annotated[list[OfferedStorageJson], About("the storages that we may see")]
    bridges: Annotated[dict[str, list[str]], About("the nodes of each bridge")]
    isos: Annotated[dict[str, list[str]], About("the nodes of each ISO, by PVE's name of it")]


class SetUpJson(OfferJson):
    profile: Annotated[str, About("the profile that was written")]
    identity: Annotated[str, About("whose credentials it has")]
    network: Annotated[str | None, About("the file of the network that was written; null: none was")]
    findings: Annotated[list[FindingJson], About("what the doctor found")]
    next: Annotated[list[str], About("the commands that come next, in their order")]


class ProfileJson(TypedDict):
    name: Annotated[str, About("its name")]
    endpoints: Annotated[list[str], About("the URLs of its API, the preferred one first")]
    identity: Annotated[str, About("whose credentials it has; empty: none")]
    secret: Annotated[str, among("where its secret comes from", ["by a command", "kept"])]
    trust: Annotated[str, About("which certificate is trusted")]
    vmids: Annotated[str, About("the VMIDs for new machines: `FIRST-LAST`")]
    namespace: Annotated[str, About("the lab's network namespace; empty: it is no lab")]


class ProfilesJson(TypedDict):
    file: Annotated[str, About("where they are kept")]
    profiles: Annotated[list[ProfileJson], About("all profiles, without their secrets")]


class RecoverableJson(TypedDict):
    machine: Annotated[str, About("the name in its mark")]
    deployment: Annotated[str, About("the deployment in its mark")]
    uuid: Annotated[str, About("the UUID in its mark")]
    node: Annotated[str, About("the node that has it")]
    vmid: Annotated[int, About("its VM")]
    phase: Annotated[str | None, About("where it would stand; null: it cannot be recorded")]
    problem: Annotated[str | None, About("why it cannot be recorded; null: it can")]
    remarks: Annotated[list[str], About("what else to know, a sentence each")]


class RecoverablesJson(TypedDict):
    found: Annotated[list[RecoverableJson], About("each VM that bears our mark and is not in the record")]


AdoptionJson = TypedDict(
    "AdoptionJson",
    {
        "asked for": Annotated[str, About("the word that found it")],
        "vmid": Annotated[int | None, About("its VM; null: there is none")],
        "node": Annotated[str | None, About("the node that has it")],
        "machine": Annotated[str | None, About("the name that it would get; null: it cannot be taken over")],
        "host key": Annotated[str | None, About("its public SSH host key; null: unknown")],
        "options": Annotated[
            dict[str, Any] | None,
            About("`deployment.proxmox` of its description; null: it cannot be taken over"),
        ],
        "left alone": Annotated[list[str], About("what the VM has that no description says: a line each")],
        "remarks": Annotated[list[str], About("what else to know, a sentence each")],
        "problem": Annotated[str | None, About("why it cannot be taken over; null: it can")],
        "terraform": Annotated[str | None, About("its address in Terraform's state; null: it came from elsewhere")],
    },
)


class AdoptionsJson(TypedDict):
    """What `adopt` found of VMs."""

    vms: Annotated[list[AdoptionJson], About("each VM that was asked for")]


class StrangeResourceJson(TypedDict):
    resource: Annotated[str, About("its place: `resources.KIND.NAME`")]
    comment: Annotated[str | None, About("the comment that it has; null: none")]
    differences: Annotated[list[str], About("how it differs from its description, a line each")]
    parts: Annotated[list[str], About("what belongs to it, a line each")]


class StrangeResourcesJson(TypedDict):
    """What `adopt resources.…` found."""

    resources: Annotated[list[StrangeResourceJson], About("each resource that was asked for")]


class KeyProofJson(TypedDict):
    machine: Annotated[str, About("its name")]
    volume: Annotated[str, About("which of its disks: `root`, or the slot of a data disk")]
    uuid: Annotated[str, About("the UUID of the disk's header")]
    slot: Annotated[int | None, About("the key slot that the key opens; null: none")]
    use: Annotated[str | None, About("what that slot is for")]
    slots: Annotated[list[int], About("the key slots in use")]
    strange: Annotated[list[int], About("those that are neither ours nor yours")]
    missing: Annotated[list[int], About("those that the record has and the header has not")]
    ok: Annotated[bool, About("true: the key opens the disk, and the header is as recorded")]


class KeyProofsJson(KeyProofJson):
    disks: NotRequired[Annotated[list[KeyProofJson], About("the other disks, if there are any")]]


class MoveJson(TypedDict):
    goal: Annotated[str, About("what was asked for")]
    standing: Annotated[str, About("the phase that it begins in")]
    step: Annotated[str, About("what is done")]
    to: Annotated[str, About("the phase that it leads to")]


class SightingJson(TypedDict):
    standing: Annotated[str, About("the phase that was recorded")]
    seen: Annotated[str, About("what is found instead")]
    phase: Annotated[str, About("the phase that it is then in")]


class LifecycleJson(TypedDict):
    moves: Annotated[list[MoveJson], About("all that can be done")]
    sightings: Annotated[list[SightingJson], About("all that can be found")]


class NoLabJson(TypedDict):
    """The lab does not run."""

    up: Annotated[Literal[False], About("false: it does not run")]


class LabJson(TypedDict):
    """The lab runs."""

    up: Annotated[Literal[True], About("true: it runs")]
    url: Annotated[str, About("where its API is")]
    pve: Annotated[str, About("the version of Proxmox VE that it has")]
    guests: Annotated[str, About("how its guests are run: `simulated` or `qemu`")]
    nodes: Annotated[Any, About("its nodes")]
    calls: Annotated[int, About("how many calls of its API were made")]
    vms: Annotated[dict[str, Any], About("its VMs, by VMID")]
