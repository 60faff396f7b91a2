"""Cloud-init, keys, monitor, consoles, statistics: what is around a VM."""

import asyncio
import secrets
from pathlib import Path
from typing import Any

from aiohttp import WSMsgType, web

from nixops_proxmox.lab.call import Call, Routes, needs
from nixops_proxmox.lab.cluster import Console
from nixops_proxmox.lab.config import MASK, typed
from nixops_proxmox.lab.machines.qemu.argv import SERIAL
from nixops_proxmox.lab.refusals import Refused, die
from nixops_proxmox.lab.rfb import show
from nixops_proxmox.lab.routes.statistics import TIMEFRAME, series
from nixops_proxmox.lab.schema.properties import split
from nixops_proxmox.lab.schema.types import boolean, integer, one_of, text
from nixops_proxmox.lab.serial_line import relay
from nixops_proxmox.lab.tasks import Log
from nixops_proxmox.lab.vm import Vm
from nixops_proxmox.lab.vms import cloud_init as cloud_drive

routes = Routes()
BASE = "/nodes/{node}/qemu/{vmid}"
AUDIT = needs("/vms/{vmid}", "VM.Audit")
CONSOLE = needs("/vms/{vmid}", "VM.Console")


# Cloud-init.


@routes.get(f"{BASE}/cloudinit", permission=AUDIT)
async def cloud_init(call: Call) -> Any:
    """Keys whose values the drive does not have yet are pending."""
    vm = call.vm
    found = []
    for key, value in vm.config.items():
        if not cloud_drive.is_told(key):
            continue
        shown = MASK if key == "cipassword" else typed(key, value, call.cluster.release)
        old = vm.told.get(key) if vm.running else value
        found.append({"key": key, "value": shown} if old == value else {"key": key, "value": old, "pending": shown})
    return found


@routes.put(f"{BASE}/cloudinit", permission=needs("/vms/{vmid}", "VM.Config.Cloudinit"))
async def regenerate(call: Call) -> Any:
    vm = call.vm
    vm.check_lock()
    await cloud_drive.write_drive(call.cluster, vm)


@routes.get(f"{BASE}/cloudinit/dump", {"type": one_of("user", "network", "meta", optional=False)}, AUDIT)
async def dump(call: Call) -> Any:
    config, release = call.vm.config, call.cluster.release
    match call.params["type"]:
        case "user":
            return cloud_drive.user_data(config, call.vmid, release, masked=True)
        case "meta":
            return cloud_drive.meta_data(config, call.vmid, release)
        case _:
            return cloud_drive.network_config(config)


# Keys and monitor.


@routes.put(f"{BASE}/sendkey", {"key": text(optional=False), "skiplock": boolean()}, CONSOLE)
async def send_key(call: Call) -> Any:
    vm = call.vm
    if vm.running is None:
        die(f"VM {vm.vmid} not running")


def may_use_monitor(call: Call) -> None:
    path = f"/vms/{call.params['vmid']}"
    if call.cluster.release.since(9):
        call.require(path, "Sys.Audit", "Sys.Modify", any_of=True)
    else:
        call.require(path, "VM.Monitor")


@routes.post(f"{BASE}/monitor", {"command": text(optional=False)}, may_use_monitor)
async def monitor(call: Call) -> Any:
    vm, command = call.vm, call.params["command"]
    if not command.startswith(("info", "help")) and not call.auth.is_root:
        call.require("/", "Sys.Modify")
    if vm.running is None:
        return f"ERROR: VM {vm.vmid} not running\n"
    if command == "info status":
        return f"VM status: {vm.qmpstatus}\r\n"
    return ""


# Consoles.


@routes.post(f"{BASE}/vncproxy", {"websocket": boolean(), "generate-password": boolean()}, CONSOLE)
async def vnc_proxy(call: Call) -> Any:
    """A VM that does not run is found out by the worker, later. Without a password, that of the screen is the ticket,
    of which VNC takes 8 characters."""
    told = call.get("generate-password") or (call.get("websocket") and call.cluster.release.consoles_have_passwords)
    password = secrets.token_urlsafe(6)[:8] if told else ""
    more = {"cert": call.cluster.certificate, **({"password": password} if password else {})}
    return await _proxy(call, call.vm, "vncproxy", more, password)


@routes.post(f"{BASE}/termproxy", {"serial": one_of("serial0", "serial1", "serial2", "serial3")}, CONSOLE)
async def term_proxy(call: Call) -> Any:
    vm = call.vm
    serial = call.get("serial") or next(
        (key for key in ("serial0", "serial1", "serial2", "serial3") if vm.config.get(key) == "socket"), None
    )
    if serial is None or vm.config.get(serial) != "socket":
        die("unable to find a serial interface")
    return await open_terminal(call, vm)


async def open_terminal(call: Call, vm: Vm) -> dict[str, Any]:
    return await _proxy(call, vm, "vncproxy", {}, None)


async def _proxy(call: Call, vm: Vm, kind: str, more: dict[str, Any], password: str | None) -> dict[str, Any]:
    """A ticket for the websocket, good for 40 seconds; the worker waits 10 for a connection. `password`: of a screen
    (empty: the ticket is), None for a terminal."""
    ticket = f"PVEVNC:{int(call.cluster.clock.time()):08X}::{secrets.token_urlsafe(32)}"
    ticket = f"{password}:{ticket}" if password else ticket
    port = 5900 + len(call.cluster.consoles) % 99
    used = asyncio.Event()
    now = call.cluster.clock.time()
    screen = None if password is None else password or ticket
    call.cluster.consoles[ticket] = Console(vm.vmid, now + 40, used, screen, now + 30)

    async def work(log: Log) -> None:
        log.say(f"starting {kind} {call.node}")
        waited = 0.0
        while not used.is_set() and waited < 10:
            await call.cluster.clock.sleep(0.5)
            waited += 0.5
        if not used.is_set():
            die("connection timed out")

    upid = call.cluster.tasks.start(call.node, kind, str(vm.vmid), call.auth, work)
    return {"user": call.auth.who, "ticket": ticket, "port": str(port), "upid": upid, **more}


@routes.post(f"{BASE}/spiceproxy", {"proxy": text()}, CONSOLE)
async def spice_proxy(call: Call) -> Any:
    """What a remote-viewer's file has in it; the ticket and its password are good for 30 seconds. The display that the
    running VM was started with counts."""
    vm = call.vm
    if vm.running is None:
        die(f"VM {vm.vmid} not running")
    if not split(vm.started.get("vga", "std"), "type").get("type", "std").startswith("qxl"):
        die("no spice port")
    ticket = f"pvespiceproxy:{int(call.cluster.clock.time()):08x}:{vm.vmid}:{vm.node}::61000"
    proxy = str(call.get("proxy") or f"{vm.node}.lab.example")
    return {
        "type": "spice",
        "title": f"VM {vm.vmid} - {vm.name}",
        "host": f"{ticket}::{secrets.token_hex(20)}",
        "proxy": f"http://{f'[{proxy}]' if ':' in proxy else proxy}:3128",
        "tls-port": 61000,
        "host-subject": f"OU=PVE Cluster Node,O=Proxmox Virtual Environment,CN={vm.node}.lab.example",
        "ca": call.cluster.certificate.replace("\n", "\\n"),
        "password": secrets.token_hex(20),
        "delete-this-file": 1,
        "secure-attention": "Ctrl+Alt+Ins",
        "toggle-fullscreen": "Shift+F11",
        "release-cursor": "Ctrl+Alt+R",
    }


@routes.get(
    f"{BASE}/vncwebsocket",
    {"port": integer(5900, 5999, optional=False), "vncticket": text(512, optional=False)},
    CONSOLE,
)
async def websocket(call: Call) -> Any:
    """A screen, or our own reading of xterm.js's protocol: the login line, then the serial port. A simulated guest says
    what is in its log, and hears nothing."""
    return await serve_terminal(call, call.vm)


async def serve_terminal(call: Call, vm: Vm) -> Any:
    known = call.cluster.consoles.pop(call.params["vncticket"], None)
    if known is None or known.vmid != vm.vmid or known.valid < call.cluster.clock.time():
        raise Refused(401, "permission denied - invalid PVEVNC ticket", empty=True)
    known.used.set()
    socket = web.WebSocketResponse(protocols=("binary",))
    await socket.prepare(call.request)
    if known.password is not None:
        if vm.running is not None:  # else the worker on the other side has ended
            await show(socket, vm.name, known.password, lambda: call.cluster.clock.time() <= known.password_valid)
        await socket.close()
        return socket
    login = await socket.receive()
    if login.type in (WSMsgType.TEXT, WSMsgType.BINARY):
        await socket.send_bytes(b"OK")
        if (line := vm.directory / SERIAL).exists():
            await relay(socket, line, lambda: vm.running is not None)
        else:
            await _stream(socket, vm.directory / "serial.log")
    await socket.close()
    return socket


async def _stream(socket: web.WebSocketResponse, log: Path) -> None:
    """Until the client goes away."""
    position = 0
    while not socket.closed:
        data = log.read_bytes()[position:] if log.exists() else b""
        position += len(data)
        if data:
            await socket.send_bytes(data)
        try:
            message = await asyncio.wait_for(socket.receive(), 0.2)
        except TimeoutError:
            continue
        if message.type in (WSMsgType.CLOSE, WSMsgType.CLOSED, WSMsgType.CLOSING, WSMsgType.ERROR):
            return


# Statistics: enough for who asks.


@routes.get(f"{BASE}/rrddata", TIMEFRAME, AUDIT)
async def statistics(call: Call) -> Any:
    if call.vmid not in call.cluster.vms:
        wrong = f"rrd_fetch_r failed: opening '/var/lib/rrdcached/db/pve2-vm/{call.vmid}': No such file or directory"
        die(f"RRD error: rrdcached@unix:/var/run/rrdcached.sock: {wrong}")
    return series(call, {})
