"""What verbs print of what is stored: volumes, snapshots, backups, uploads."""

from typing import Annotated, NotRequired

from typing_extensions import TypedDict

from nixops_proxmox.messages.shapes.about import About

VolumeJson = TypedDict(
    "VolumeJson",
    {
        "volume": Annotated[str, About("its name")],
        "phase": Annotated[str, About("where it stands")],
        "serial": Annotated[str, About("by which the guest knows it")],
        "storage": Annotated[str, About("its storage")],
        "size": Annotated[int, About("in bytes")],
        "node": Annotated[str | None, About("the node that has it; null: nowhere yet")],
        "vmid": Annotated[int | None, About("the VM that has it in PVE; null: nowhere yet")],
        "slot": Annotated[str | None, About("where that VM has it; null: nowhere yet")],
        "volume ID": Annotated[str | None, About("PVE's name of it; null: nowhere yet")],
        "machine": Annotated[str | None, About("the machine that has it; null: it is parked")],
        "described": Annotated[bool, About("false: nothing describes it any more, and it is kept")],
        "described by": Annotated[str | None, About("the machine that should have it")],
        "protected": Annotated[bool, About("true: it is never deleted")],
    },
)


class VolumesJson(TypedDict):
    volumes: Annotated[list[VolumeJson], About("all volumes of the deployment")]


class SnapshotJson(TypedDict):
    machine: Annotated[str, About("the machine that it is of")]
    name: Annotated[str, About("its name in PVE")]
    created: Annotated[int, About("seconds since the epoch")]
    ram: Annotated[bool, About("true: it has the memory, too")]
    parent: Annotated[str | None, About("the snapshot before it; null: it is the first")]
    description: Annotated[str, About("what PVE keeps with it")]


class SnapshotsJson(TypedDict):
    snapshots: Annotated[list[SnapshotJson], About("those of each machine, in PVE's order")]


class BackupJson(TypedDict):
    machine: Annotated[str, About("the machine that it is of")]
    volume: Annotated[str, About("PVE's name of it; a restore takes it")]
    created: NotRequired[Annotated[int, About("seconds since the epoch; only with `--list`")]]
    size: NotRequired[Annotated[int, About("in bytes; only with `--list`")]]
    ours: NotRequired[
        Annotated[
            bool,
            About("true: its notes name this machine; false: it is only known by its VMID. Only with `--list`"),
        ]
    ]


class BackupsJson(TypedDict):
    backups: Annotated[list[BackupJson], About("those that were made, or with `--list` those that there are")]


class UploadJson(TypedDict):
    """What `iso upload` did."""

    volume: Annotated[str, About("PVE's name of it, which a description takes")]
    node: Annotated[str | None, About("the node that has it; null: all nodes share the storage")]
    uploaded: Annotated[bool, About("false: it was there")]


class UploadOfEachJson(UploadJson):
    hypervisor: Annotated[str, About("the profile of the hypervisor")]


class UploadsJson(TypedDict):
    """What `iso upload --each` did."""

    uploads: Annotated[list[UploadOfEachJson], About("each hypervisor and node")]


class UploadRemovedJson(TypedDict):
    volume: Annotated[str, About("PVE's name of it")]
    node: Annotated[str | None, About("the node that had it; null: all nodes share the storage")]
    removed: Annotated[bool, About("false: it was gone already, or you did not agree")]
