"""The guest agent as PVE offers it: its own preconditions, limits and texts around qemu-ga's answers."""

import base64
from collections.abc import Mapping
from typing import Any

from nixops_proxmox.lab.clock import within
from nixops_proxmox.lab.cluster import Cluster
from nixops_proxmox.lab.config import agent_enabled
from nixops_proxmox.lab.machines.base import AgentError, AgentTimeout
from nixops_proxmox.lab.refusals import Refused, die
from nixops_proxmox.lab.vm import Vm

READ_LIMIT = 16 * 1024**2
READ_CHUNK = 1024**2
WHILE_FROZEN = (
    "guest-ping", "guest-info", "guest-sync", "guest-sync-delimited", "guest-fsfreeze-status", "guest-fsfreeze-thaw",
)  # fmt: skip
LONG = {"guest-fsfreeze-freeze": 3600.0, "guest-fsfreeze-thaw": 180.0, "guest-fstrim": 600.0, "guest-shutdown": 600.0}


async def ask(cluster: Cluster, vm: Vm, command: str, arguments: Mapping[str, Any] | None = None) -> Any:
    """One command; raises AgentError for qemu-ga's own refusals, Refused for everything PVE says itself."""
    if not agent_enabled(vm.config):
        die("No QEMU guest agent configured")
    if vm.running is None:
        die(f"VM {vm.vmid} is not running")
    await _take(cluster, vm)
    try:
        await _ping(cluster, vm)
        return await _send(cluster, vm, command, arguments or {})
    finally:
        vm.agent_busy.release()


async def _take(cluster: Cluster, vm: Vm) -> None:
    """The channel is serial; who waits too long is told so."""
    try:
        await within(cluster.clock, cluster.latency.agent, vm.agent_busy.acquire())
    except TimeoutError:
        die(f"unable to connect to VM {vm.vmid} qga socket - timeout after 31 retries")


async def _ping(cluster: Cluster, vm: Vm) -> None:
    if vm.agent_silent > 0:
        vm.agent_silent -= 1
        await cluster.clock.sleep(cluster.latency.agent_silence)
        die("QEMU guest agent is not running")
    if not vm.has_agent_device or vm.running is None or vm.paused:
        die("QEMU guest agent is not running")
    try:
        await vm.running.agent("guest-ping", {}, cluster.latency.agent_ping)
    except (AgentTimeout, AgentError):
        die("QEMU guest agent is not running")


async def _send(cluster: Cluster, vm: Vm, command: str, arguments: Mapping[str, Any]) -> Any:
    if vm.running is None:
        die(f"VM {vm.vmid} is not running")
    if vm.agent_frozen and command not in WHILE_FROZEN:
        raise AgentError("CommandNotFound", f"Command {command} has been disabled: the agent is in frozen state")
    try:
        return await vm.running.agent(command, arguments, LONG.get(command, cluster.latency.agent))
    except AgentTimeout:
        word = "qga" if cluster.release.since(9, 1) else "qmp"
        if command == "guest-suspend-ram":  # it sleeps, and cannot say so any more
            vm.suspended = True
        die(f"VM {vm.vmid} {word} command '{command}' failed - got timeout")


async def simple(cluster: Cluster, vm: Vm, command: str, arguments: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """{"result": …}, with qemu-ga's error inside it where there is one: that is how PVE does it."""
    try:
        return {"result": await ask(cluster, vm, command, arguments)}
    except AgentError as error:
        return {"result": {"error": {"class": error.error_class, "desc": error.desc}}}


async def strict(cluster: Cluster, vm: Vm, command: str, arguments: Mapping[str, Any] | None = None) -> Any:
    """For exec and files: qemu-ga's error is a 500."""
    try:
        return await ask(cluster, vm, command, arguments)
    except AgentError as error:
        if any(ord(char) > 255 for char in error.desc):
            # pvedaemon dies of a wide character while it writes the answer; pveproxy sees the pipe break (8.4.21).
            raise Refused(596, "Broken pipe", empty=True) from error
        die(f"Agent error: {error.desc}")


async def execute(cluster: Cluster, vm: Vm, argv: list[str], stdin: str) -> dict[str, Any]:
    arguments: dict[str, Any] = {"path": argv[0], "arg": [_bytes(arg) for arg in argv[1:]], "capture-output": True}
    if stdin:
        arguments["input-data"] = base64.b64encode(latin(stdin)).decode()
    answer = await strict(cluster, vm, "guest-exec", arguments)
    return {"pid": answer["pid"]}


def _bytes(text: str) -> str:
    """Perl dies on what does not fit into Latin-1."""
    if any(ord(char) > 255 for char in text):
        die("Wide character in syswrite at /usr/share/perl5/PVE/QMPClient.pm line 162.")
    return text


def latin(text: str) -> bytes:
    _bytes(text)
    return text.encode("utf-8")


def one_to_one(encoded: str) -> str:
    """Bytes as code points, which is what PVE's JSON carries."""
    return base64.b64decode(encoded).decode("latin-1")


async def exec_status(cluster: Cluster, vm: Vm, pid: int) -> dict[str, Any]:
    """qemu-ga forgets a process once it has told that it has ended."""
    answer = dict(await strict(cluster, vm, "guest-exec-status", {"pid": pid}))
    result: dict[str, Any] = {"exited": 1 if answer["exited"] else 0}
    if not answer["exited"]:
        return result
    for key in ("exitcode", "signal"):
        if key in answer:
            result[key] = answer[key]
    for stream in ("out", "err"):
        if f"{stream}-data" in answer:
            result[f"{stream}-data"] = one_to_one(answer[f"{stream}-data"])
            result[f"{stream}-truncated"] = 1 if answer.get(f"{stream}-truncated") else 0
    return result


async def write_file(cluster: Cluster, vm: Vm, path: str, content: str, *, encode: bool) -> None:
    """Overwrites; `encode=0` means that the content is base64 already."""
    handle = await strict(cluster, vm, "guest-file-open", {"path": path, "mode": "wb"})
    data = base64.b64encode(latin(content)).decode() if encode else content
    await strict(cluster, vm, "guest-file-write", {"handle": handle, "buf-b64": data})
    await strict(cluster, vm, "guest-file-close", {"handle": handle})


async def read_file(
    cluster: Cluster, vm: Vm, path: str, *, count: int = READ_LIMIT, offset: int = 0, decode: bool = True
) -> dict[str, Any]:
    handle = await strict(cluster, vm, "guest-file-open", {"path": path, "mode": "r"})
    if offset:
        await strict(cluster, vm, "guest-file-seek", {"handle": handle, "offset": offset, "whence": 0})
    data, eof = b"", False
    while not eof and len(data) < count:
        answer = await strict(
            cluster, vm, "guest-file-read", {"handle": handle, "count": min(READ_CHUNK, count - len(data))}
        )
        data += base64.b64decode(answer["buf-b64"])
        eof = bool(answer["eof"]) or not answer["count"]
    await strict(cluster, vm, "guest-file-close", {"handle": handle})
    content = data.decode("latin-1") if decode else base64.b64encode(data).decode()
    return {"content": content, "bytes-read": len(data), **({} if eof else {"truncated": 1})}
