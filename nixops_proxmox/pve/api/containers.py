"""The same calls for containers: they have the same paths under another word, and a few of their own."""

from collections.abc import Mapping
from typing import Any

from typing_extensions import override

from nixops_proxmox.core.upid import find_upid
from nixops_proxmox.pve.api import answers
from nixops_proxmox.pve.api.client import Params, PveClient
from nixops_proxmox.pve.api.guarded import Guarded, Prove
from nixops_proxmox.pve.wire.calls import QUICK, SLOW, HttpMethod, Timeouts
from nixops_proxmox.pve.wire.upload import Upload

VMS, CONTAINERS = "/nodes/{node}/qemu", "/nodes/{node}/lxc"


class ContainerClient(PveClient):
    """What `PveClient` says of VMs holds for containers here."""

    @override
    def guarded(self, prove: Prove) -> "ContainerClient":
        return ContainerClient(Guarded(self._sender.send, self._sender.close, prove))

    @override
    def _ask(
        self,
        method: HttpMethod,
        template: str,
        params: Params | None = None,
        *,
        poll: bool = False,
        patience: Timeouts = QUICK,
        upload: Upload | None = None,
        **where: str | int,
    ) -> Any:
        ours = CONTAINERS + template.removeprefix(VMS) if template.startswith(VMS) else template
        return super()._ask(method, ours, params, poll=poll, patience=patience, upload=upload, **where)

    @override
    def get_config(self, node: str, vmid: int, *, snapshot: str = "") -> answers.ConfigSeen:
        """What is no text or number, such as raw LXC options, is left out."""
        params: Params = {"snapshot": snapshot} if snapshot else {}
        values = dict(answers.parse_container(self._ask("GET", f"{VMS}/{{vmid}}/config", params, node=node, vmid=vmid)))
        digest = values.pop("digest", "")
        return answers.ConfigSeen(values, values, (), digest)

    @override
    def change_config(self, node: str, vmid: int, params: Params) -> str | None:
        """At once: PVE has no task for it."""
        self.set_config(node, vmid, params)
        return None

    def restore_container(self, node: str, vmid: int, archive: str, volumes: Params, *, force: bool) -> str:
        """`volumes`: each, as it is made. Without them, PVE puts all on the storage `local`."""
        params: Params = {"vmid": vmid, "ostemplate": archive, "restore": True, **volumes}
        return self._task("POST", VMS, {**params, "force": True} if force else params, node=node)

    @override
    def reassign_disk(
        self, node: str, vmid: int, disk: str, target: int, target_disk: str, digests: tuple[str, str]
    ) -> str:
        """Make the volume another container's. PVE takes it out of the one before it asks whether the other may have
        it: if that is protected, nothing has the volume then."""
        params: Params = {
            "volume": disk,
            "target-vmid": target,
            "target-volume": target_disk,
            "digest": digests[0],
            "target-digest": digests[1],
        }
        return self._task("POST", f"{VMS}/{{vmid}}/move_volume", params, node=node, vmid=vmid)

    @override
    def open_terminal(self, node: str, vmid: int, serial: str = "") -> Mapping[str, Any]:
        """{port, ticket, user, upid} of its console. The ticket is good for 40 s."""
        del serial
        return answers.as_map(self._ask("POST", f"{VMS}/{{vmid}}/termproxy", node=node, vmid=vmid), "termproxy")

    @override
    def migrate_vm(self, node: str, vmid: int, target: str, params: Params | None = None) -> str:
        """Take the container to another node. One that runs is stopped for it, and started there."""
        wanted: Params = {"target": target, **(params or {})}
        return self._task("POST", f"{VMS}/{{vmid}}/migrate", wanted, node=node, vmid=vmid)

    @override
    def make_template(self, node: str, vmid: int) -> str | None:
        upid = find_upid(self._ask("POST", f"{VMS}/{{vmid}}/template", node=node, vmid=vmid, patience=SLOW))
        return None if upid is None else upid.text

    def get_interfaces(self, node: str, vmid: int) -> tuple[answers.AgentInterface, ...]:
        """What the node sees in the container's network. Nothing of one that does not run. Since 8.0."""
        data = self._ask("GET", f"{VMS}/{{vmid}}/interfaces", node=node, vmid=vmid, poll=True)
        return answers.parse_host_interfaces(data)
