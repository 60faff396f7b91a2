"""What `plan --json` prints. Other verbs print parts of it, too."""

from typing import Annotated

from typing_extensions import TypedDict

from nixops_proxmox.messages.shapes.about import About, among
from nixops_proxmox.messages.shapes.volumes import VolumeJson
from nixops_proxmox.model import Effect, Phase, When


class ChangeJson(TypedDict):
    key: Annotated[str, About("PVE's key: `memory`, `scsi1`, `net0`, …")]
    have: Annotated[str, About("the VM's value; empty: none")]
    want: Annotated[str, About("the description's value; empty: none")]
    when: Annotated[str, among("when it takes effect", When)]
    reason: Annotated[str, About("why it waits for a restart")]
    restart: Annotated[bool, About("true: it takes effect only when the VM is stopped and started")]
    waiting: Annotated[
        bool,
        About(
            "true: PVE knows the value, and the running VM does not have it yet; or PVE makes the change only while"
            " the VM is stopped, as `reason` says"
        ),
    ]
    forbidden: Annotated[str, About("why it cannot be made in place")]
    permission: Annotated[str, About("why it is made only with your permission")]
    remedy: Annotated[str, About("what you can do about `forbidden` or `permission`")]


class LayoutJson(TypedDict):
    have: Annotated[str, About("how the disks are laid out: the name of a layout, or `script`")]
    want: Annotated[str, About("how the description says it")]


class PackageJson(TypedDict):
    name: Annotated[str, About("its name")]
    before: Annotated[list[str], About("the versions that the machine has")]
    after: Annotated[list[str], About("the versions that it gets")]
    growth: Annotated[int, About("in bytes")]


class UnitsJson(TypedDict):
    restarts: Annotated[list[str], About("units that are restarted")]
    stops: Annotated[list[str], About("units that are stopped")]
    reloads: Annotated[list[str], About("units that are reloaded")]
    starts: Annotated[list[str], About("units that are started")]
    keeps: Annotated[list[str], About("units that change, and are not restarted")]


NodeVerdictJson = TypedDict(
    "NodeVerdictJson",
    {
        "node": Annotated[str, About("its name")],
        "chosen": Annotated[bool, About("true: the machine is or goes there")],
        "fits": Annotated[bool, About("true: nothing speaks against it")],
        "reasons": Annotated[list[str], About("what speaks against it")],
        "notes": Annotated[list[str], About("wishes that it would not fulfil")],
        "memory free": Annotated[int | None, About("in bytes; null: unknown")],
        "memory": Annotated[int | None, About("in bytes; null: unknown")],
    },
)


class PlacementJson(TypedDict):
    node: Annotated[str, About("where the machine is or goes")]
    nodes: Annotated[list[NodeVerdictJson], About("all nodes")]


MachinePlanJson = TypedDict(
    "MachinePlanJson",
    {
        "machine": Annotated[str, About("its name")],
        "phase": Annotated[str, among("where it stands now", Phase)],
        "effect": Annotated[str, among("what a deploy does to it", Effect)],
        "moves": Annotated[list[str], About("what will be done, one sentence each")],
        "hooks": Annotated[list[str], About("which of the commands under `deploy.hooks` run, a sentence each")],
        "changes": Annotated[list[ChangeJson], About("what differs")],
        "restart": Annotated[
            list[str], About("why a running machine is restarted: PVE's keys, or a sentence; empty: it is not")
        ],
        "restarts": Annotated[
            int,
            About("how often it is restarted: 0, 1, or 2 (once for its hardware, once for its new system's kernel)"),
        ],
        "downtime": Annotated[
            float | None, About("the seconds that its last restart took; null: unknown, or no restart")
        ],
        "hypervisor": Annotated[str, About("the profile of the hypervisor that it is on, or will be")],
        "node": Annotated[str, About("where a new machine is made; empty: it is not new")],
        "placement": Annotated[
            PlacementJson | None, About("with `--why`: where the machine is or goes, and why; null: not asked for")
        ],
        "packages": Annotated[
            list[PackageJson] | None, About("the packages that change; null: unknown, or none is replaced")
        ],
        "bytes to copy": Annotated[int | None, About("at most so much is copied to the machine; null: unknown")],
        "growth": Annotated[
            int | None, About("bytes by which the new system is larger than the old one; null: unknown")
        ],
        "at the next restart": Annotated[
            list[str] | None, About("what of the new system waits for a boot, such as the kernel; null: unknown")
        ],
        "cannot go live": Annotated[
            list[str] | None,
            About("why NixOS cannot switch to the new system while the machine runs; null: unknown"),
        ],
        "system": Annotated[str, About("the store path of the system that it gets; empty: it has it")],
        "units": Annotated[
            UnitsJson | None,
            About("what becomes of units; null: unknown, or no new system meets a running one"),
        ],
        "units unknown": Annotated[str | None, About("why they are unknown, if they are")],
        "disks in the guest": Annotated[
            list[str], About("what grows in the guest with a larger disk, or does not, and why: a sentence each")
        ],
        "stays": Annotated[list[str], About("what the VM has and the description does not say: a sentence each")],
        "notes": Annotated[
            list[str],
            About("what else to know, such as a tang server on the node of the machine that it opens: a sentence each"),
        ],
        "layout": Annotated[
            LayoutJson | None,
            About(
                "how the disks are laid out otherwise than described; null: they are as described, or are laid out"
                " again"
            ),
        ],
        "seal": Annotated[
            str,
            About("why the TPM will not unseal the disk's key after the changes; empty: it will, or it does not now"),
        ],
        "snapshot": Annotated[
            bool,
            About("whether a snapshot of its disks is taken before its new system, until that is confirmed"),
        ],
        "lock": Annotated[str | None, About("who holds the VM's lock; null: it is free")],
        "error": Annotated[str | None, About("why it cannot be deployed; null: it can")],
        "more": Annotated[str | None, About("where the documents explain the error; null: its message is all")],
    },
)

RemovalJson = TypedDict(
    "RemovalJson",
    {
        "machine": Annotated[str, About("its name")],
        "phase": Annotated[str, among("where it stands", Phase)],
        "vmid": Annotated[int | None, About("the VM that is destroyed; null: it has none")],
        "node": Annotated[str | None, About("where that is")],
        "also destroyed": Annotated[
            list[str], About("volumes that go with it beside the disks that we made: a line each")
        ],
        "kept": Annotated[
            list[str],
            About(
                "what outlives the VM: volumes of ours, which are parked first, and disks that are not the VM's own:"
                " a line each"
            ),
        ],
    },
)


class ResourceJson(TypedDict):
    kind: Annotated[str, About("what it is: `pool`, `network`, …")]
    name: Annotated[str, About("its name under `resources`")]
    phase: Annotated[
        str | None, About("`absent`, `differs` or `present`; null: it could not be looked at, and `error` says why")
    ]
    described: Annotated[bool, About("false: it is recorded, and no longer described")]
    replaced: Annotated[bool, About("true: a deploy removes what is there, and makes another")]
    differences: Annotated[list[str], About("how it differs from its description, a line each")]
    remarks: Annotated[list[str], About("why it has no effect, or not all of it, a line each")]
    error: Annotated[str | None, About("why it could not be looked at; null: it could")]
    more: Annotated[str | None, About("where the documents explain the error; null: its message is all")]


RolloutJson = TypedDict(
    "RolloutJson",
    {
        "group": Annotated[str | None, About("its name; null: the machines without a group")],
        "batches": Annotated[list[list[str]], About("names of machines that are changed beside each other")],
        "canaries": Annotated[bool, About("true: the first batch must not fail")],
        "max failures": Annotated[int, About("after more than these, no more machines begin")],
    },
)

PlansJson = TypedDict(
    "PlansJson",
    {
        "format": Annotated[int, About("1; it grows when a key is removed or changes its meaning")],
        "machines": Annotated[list[MachinePlanJson], About("the worst first")],
        "no longer described": Annotated[
            list[str], About("names of machines that are recorded, and are not in the description any more")
        ],
        "removals": Annotated[list[RemovalJson], About("what would be destroyed with what is no longer described")],
        "volumes": Annotated[list[VolumeJson], About("all volumes of the deployment")],
        "resources": Annotated[
            list[ResourceJson],
            About("everything else that is described under `resources`, or that the record still has"),
        ],
        "order": Annotated[list[RolloutJson], About("the groups that are changed some at a time")],
    },
)
