"""/nodes/{node}/qemu/{vmid}/agent: the guest agent."""

from typing import Any

from nixops_proxmox.lab.call import Call, Permission, Routes
from nixops_proxmox.lab.schema.types import Param, boolean, integer, one_of, text
from nixops_proxmox.lab.vms import agent

routes = Routes()
BASE = "/nodes/{node}/qemu/{vmid}/agent"
# name in the path → (qemu-ga's command, HTTP method, who may use it since 9.0)
SIMPLE = {
    "fsfreeze-freeze": ("guest-fsfreeze-freeze", "POST", "FileSystemMgmt"),
    "fsfreeze-status": ("guest-fsfreeze-status", "POST", "Audit|FileSystemMgmt"),
    "fsfreeze-thaw": ("guest-fsfreeze-thaw", "POST", "FileSystemMgmt"),
    "fstrim": ("guest-fstrim", "POST", "FileSystemMgmt"),
    "get-fsinfo": ("guest-get-fsinfo", "GET", "Audit"),
    "get-host-name": ("guest-get-host-name", "GET", "Audit"),
    "get-memory-block-info": ("guest-get-memory-block-info", "GET", "Audit"),
    "get-memory-blocks": ("guest-get-memory-blocks", "GET", "Audit"),
    "get-osinfo": ("guest-get-osinfo", "GET", "Audit"),
    "get-time": ("guest-get-time", "GET", "Audit"),
    "get-timezone": ("guest-get-timezone", "GET", "Audit"),
    "get-users": ("guest-get-users", "GET", "Audit"),
    "get-vcpus": ("guest-get-vcpus", "GET", "Audit"),
    "info": ("guest-info", "GET", "Audit"),
    "network-get-interfaces": ("guest-network-get-interfaces", "GET", "Audit"),
    "ping": ("guest-ping", "POST", "Audit"),
    "shutdown": ("guest-shutdown", "POST", "PowerMgmt"),
    "suspend-disk": ("guest-suspend-disk", "POST", "PowerMgmt"),
    "suspend-hybrid": ("guest-suspend-hybrid", "POST", "PowerMgmt"),
    "suspend-ram": ("guest-suspend-ram", "POST", "PowerMgmt"),
}
OTHERS = ["exec", "exec-status", "file-read", "file-write", "set-user-password"]
CONTENT_LIMIT = 60 * 1024


def may(names: str) -> Permission:
    """VM.Monitor until 8.4; since 9.0 one of VM.GuestAgent.* each, or Unrestricted."""

    def check(call: Call) -> None:
        path = f"/vms/{call.params['vmid']}"
        if not call.cluster.release.guest_agent_privileges:
            call.require(path, "VM.Monitor")
        elif names == "PowerMgmt":
            call.require(path, "VM.PowerMgmt", "VM.GuestAgent.Unrestricted", any_of=True)
        elif names == "Unrestricted":
            call.require(path, "VM.GuestAgent.Unrestricted")
        else:
            call.require(
                path, *(f"VM.GuestAgent.{name}" for name in names.split("|")), "VM.GuestAgent.Unrestricted", any_of=True
            )

    return check


def _add_simple(name: str, command: str, method: str, names: str) -> None:
    async def handler(call: Call) -> Any:
        return await agent.simple(call.cluster, call.vm, command)

    routes.add(method, f"{BASE}/{name}", {}, may(names))(handler)


for _name, (_command, _method, _names) in SIMPLE.items():
    _add_simple(_name, _command, _method, _names)


@routes.get(BASE, permission=may("Audit"))
async def index(_: Call) -> Any:
    return [{"name": name} for name in sorted([*SIMPLE, *OTHERS])]


@routes.post(BASE, {"command": one_of(*SIMPLE, optional=False)}, may("Unrestricted"))
async def generic(call: Call) -> Any:
    return await agent.simple(call.cluster, call.vm, SIMPLE[call.params["command"]][0])


COMMAND = Param("array", optional=False, items=text(), since=(8, 0))
COMMAND_7 = text(optional=False, until=(7, 4))


@routes.post(f"{BASE}/exec", {"command": COMMAND, "input-data": text(64 * 1024)}, may("Unrestricted"), since=(8, 0))
async def execute(call: Call) -> Any:
    return await agent.execute(call.cluster, call.vm, call.params["command"], call.get("input-data", ""))


@routes.post(f"{BASE}/exec", {"command": COMMAND_7, "input-data": text(64 * 1024)}, may("Unrestricted"), until=(7, 4))
async def execute_7(call: Call) -> Any:
    """7.4 had a string list: split at NUL when keys were repeated, else at spaces and commas."""
    given = str(call.params["command"])
    argv = given.split("\0") if "\0" in given else given.replace(",", " ").split()
    return await agent.execute(call.cluster, call.vm, argv, call.get("input-data", ""))


@routes.get(f"{BASE}/exec-status", {"pid": integer(optional=False)}, may("Unrestricted"))
async def exec_status(call: Call) -> Any:
    return await agent.exec_status(call.cluster, call.vm, call.params["pid"])


READ = {
    "file": text(optional=False),
    "count": integer(1, agent.READ_LIMIT, since=(9, 1)),
    "offset": integer(0, since=(9, 1)),
    "decode": boolean(since=(9, 1)),
}


@routes.get(f"{BASE}/file-read", READ, may("FileRead"))
async def file_read(call: Call) -> Any:
    return await agent.read_file(
        call.cluster,
        call.vm,
        call.params["file"],
        count=call.get("count", agent.READ_LIMIT),
        offset=call.get("offset", 0),
        decode=call.get("decode", True),
    )


@routes.post(
    f"{BASE}/file-write",
    {"file": text(optional=False), "content": text(CONTENT_LIMIT, optional=False), "encode": boolean()},
    may("FileWrite"),
)
async def file_write(call: Call) -> Any:
    await agent.write_file(
        call.cluster, call.vm, call.params["file"], call.params["content"], encode=call.get("encode", True)
    )


PASSWORD = {
    "username": text(optional=False),
    "password": text(1024, min_length=5, optional=False),
    "crypted": boolean(),
}


@routes.post(f"{BASE}/set-user-password", PASSWORD, may("Unrestricted"))
async def set_password(call: Call) -> Any:
    import base64

    password = base64.b64encode(call.params["password"].encode()).decode()
    arguments = {"username": call.params["username"], "password": password, "crypted": call.get("crypted", False)}
    return {"result": await agent.strict(call.cluster, call.vm, "guest-set-user-password", arguments)}
