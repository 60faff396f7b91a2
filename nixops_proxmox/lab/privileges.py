"""PVE's privileges and predefined roles, by release, as data."""

from nixops_proxmox.lab.release import Release

CONFIG = ["CDROM", "CPU", "Cloudinit", "Disk", "HWType", "Memory", "Network", "Options"]
VM = [
    "VM.Allocate",
    "VM.Audit",
    "VM.Backup",
    "VM.Clone",
    *[f"VM.Config.{part}" for part in CONFIG],
    "VM.Console",
    "VM.Migrate",
    "VM.PowerMgmt",
    "VM.Snapshot",
    "VM.Snapshot.Rollback",
]
GUEST_AGENT = [f"VM.GuestAgent.{part}" for part in ["Audit", "FileRead", "FileSystemMgmt", "FileWrite", "Unrestricted"]]
DATASTORE = ["Datastore.Allocate", "Datastore.AllocateSpace", "Datastore.AllocateTemplate", "Datastore.Audit"]
SYSTEM_7 = ["Sys.Audit", "Sys.Console", "Sys.Incoming", "Sys.Modify", "Sys.PowerMgmt", "Sys.Syslog"]
USERS = ["Group.Allocate", "Realm.Allocate", "Realm.AllocateUser", "User.Modify"]
POOL = ["Pool.Allocate", "Pool.Audit"]
SDN_7 = ["SDN.Allocate", "SDN.Audit"]
MAPPING = ["Mapping.Audit", "Mapping.Modify", "Mapping.Use"]

# What GET /access/permissions and the login's `cap` sort privileges under.
CAPABILITIES = {"vms": "VM.", "storage": "Datastore.", "nodes": "Sys.", "sdn": "SDN.", "mapping": "Mapping."}


def vm_privileges(release: Release) -> list[str]:
    if release.guest_agent_privileges:
        return [*VM, *GUEST_AGENT, "VM.Replicate"]
    return [*VM, "VM.Monitor"]


def privileges(release: Release) -> frozenset[str]:
    """Every privilege that release knows."""
    newer = [*MAPPING, "SDN.Use", "Sys.AccessNetwork"] if release.since(8) else []
    return frozenset(
        [*vm_privileges(release), *DATASTORE, *SYSTEM_7, *USERS, *POOL, *SDN_7, "Permissions.Modify", *newer]
    )


def roles(release: Release) -> dict[str, frozenset[str]]:
    """The predefined roles, which cannot be changed."""
    every = privileges(release)
    vm = frozenset(vm_privileges(release))
    reading = frozenset(name for name in every if name.endswith(".Audit") and not name.startswith("VM.GuestAgent"))
    agent_use = (
        frozenset(GUEST_AGENT) - {"VM.GuestAgent.Unrestricted"} if release.guest_agent_privileges else frozenset()
    )
    found = {
        "Administrator": every,
        "NoAccess": frozenset(),
        "PVEAdmin": every
        - {
            "Sys.Modify",
            "Sys.PowerMgmt",
            "Sys.Incoming",
            "Sys.AccessNetwork",
            "Realm.Allocate",
            "Permissions.Modify",
            "Mapping.Modify",
        },
        "PVEAuditor": reading,
        "PVEDatastoreAdmin": frozenset(DATASTORE),
        "PVEDatastoreUser": frozenset({"Datastore.AllocateSpace", "Datastore.Audit"}),
        "PVEPoolAdmin": frozenset(POOL),
        "PVEPoolUser": frozenset({"Pool.Audit"}),
        "PVESDNAdmin": frozenset(name for name in every if name.startswith("SDN.")),
        "PVESysAdmin": frozenset({"Sys.Audit", "Sys.Console", "Sys.Syslog"}),
        "PVETemplateUser": frozenset({"VM.Audit", "VM.Clone"}),
        "PVEUserAdmin": frozenset({"Group.Allocate", "Realm.AllocateUser", "User.Modify"}),
        "PVEVMAdmin": vm,
        "PVEVMUser": frozenset(
            {"VM.Audit", "VM.Backup", "VM.Config.CDROM", "VM.Config.Cloudinit", "VM.Console", "VM.PowerMgmt"}
        )
        | agent_use,
    }
    if release.since(8):
        found["PVESDNUser"] = frozenset({"SDN.Audit", "SDN.Use"})
        found["PVEMappingAdmin"] = frozenset(MAPPING)
        found["PVEMappingUser"] = frozenset({"Mapping.Audit", "Mapping.Use"})
    return found
