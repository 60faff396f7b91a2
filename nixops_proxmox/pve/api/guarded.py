"""Looks, right before anything is done to a VM, whether it is still ours. A VMID may have changed hands since."""

from collections.abc import Callable

from nixops_proxmox.pve.wire.calls import Call
from nixops_proxmox.pve.wire.upload import Upload

VM = "/nodes/{node}/qemu/{vmid}"
CREATING = ("/nodes/{node}/qemu", "/nodes/{node}/lxc")  # nothing is there yet, unless a restore overwrites it
UNPROVEN = (f"{VM}/clone", f"{VM}/agent/ping")  # a template is somebody else's; a ping does nothing
Prove = Callable[[str, int], None]  # given a node and a VMID; raises if that VM is not ours


def vm_touched(call: Call) -> int | None:
    """The VMID of the VM that the call changes. None: it changes nothing, or creates a VM where there is none."""
    if call.method == "GET" or call.template in UNPROVEN or "node" not in call.where:
        return None
    overwrites = call.template not in CREATING or bool(call.params.get("force"))
    vmid = call.where.get("vmid") or (call.params.get("vmid") if overwrites else None)
    return int(str(vmid)) if vmid else None


class Guarded:
    """A transport's `send`, with a look right before each call that touches a VM, however often it is tried again."""

    def __init__(self, send: Callable[[Call, Upload | None], object], close: Callable[[], None], prove: Prove) -> None:
        self._send, self._close, self._prove = send, close, prove

    def send(self, call: Call, upload: Upload | None = None) -> object:
        vmid = vm_touched(call)
        if vmid is not None:
            self._prove(str(call.where["node"]), vmid)
        return self._send(call, upload)

    def close(self) -> None:
        self._close()
