"""The lab's own door beside the API: faults, state, the list of calls, reset, and the stepped clock."""

import hmac
from typing import Any, cast

from aiohttp import web

from nixops_proxmox.lab.clock import SteppedClock
from nixops_proxmox.lab.cluster import Cluster
from nixops_proxmox.lab.faults import Fault, Faults
from nixops_proxmox.lab.vms.ha import wake
from nixops_proxmox.lab.vms.outage import cut_power, give_power


class Control:
    """/lab/{faults,state,calls,reset,nodes,power,decoys,clock}; bearer authentication with the control token."""

    def __init__(self, cluster: Cluster, faults: Faults, calls: list[dict[str, Any]], token: str) -> None:
        self._cluster = cluster
        self._faults = faults
        self._calls = calls
        self._token = token

    async def answer(self, request: web.Request) -> web.Response:
        given = request.headers.get("Authorization", "").removeprefix("Bearer ")
        if not hmac.compare_digest(given.encode(), self._token.encode()):
            return web.json_response({"error": "the lab's control token is needed"}, status=401)
        try:
            return web.json_response(await self._act(request.method, request.match_info["tail"], request))
        except (ValueError, TypeError, KeyError) as error:
            return web.json_response({"error": str(error)}, status=400)
        except LookupError as error:
            return web.json_response({"error": str(error)}, status=404)

    async def _act(self, method: str, what: str, request: web.Request) -> Any:  # noqa: C901 -- one flat case for each order
        match method, what:
            case "GET", "faults":
                return self._faults.described()
            case "POST", "faults":
                given = await request.json()
                self._faults.add(*(Fault.parse(one) for one in (given if isinstance(given, list) else [given])))
                return self._faults.described()
            case "DELETE", "faults":
                self._faults.clear()
                return []
            case "GET", "state":
                return state_of(self._cluster)
            case "GET", "calls":
                return self._calls[int(request.query.get("since", "0")) :]
            case "DELETE", "calls":
                self._calls.clear()
                return []
            case "POST", "reset":
                await self.reset()
                return state_of(self._cluster)
            case "POST", "nodes":
                for name, online in (await request.json()).items():
                    self._cluster.set_online(name, online=bool(online))
                wake(self._cluster)
                return state_of(self._cluster)["nodes"]
            case "POST", "power":
                for name, on in (await request.json()).items():
                    await (give_power if on else cut_power)(self._cluster, name)
                return state_of(self._cluster)["nodes"]
            case "POST", "decoys":
                for address in await request.json():
                    await cast(Any, self._cluster.driver).add_decoy(str(address))  # the simulated ones can
                return []
            case "POST", "clock":
                if not isinstance(self._cluster.clock, SteppedClock):
                    raise ValueError("the lab's clock is not a stepped one")  # noqa: TRY004
                self._cluster.clock.advance(float((await request.json())["advance"]))
                return {"time": self._cluster.clock.time()}
        raise IndexError(f"no {method} /lab/{what}")

    async def reset(self) -> None:
        """No VMs, no tasks, no faults, no calls; users and files stay."""
        await self._cluster.stop_all()
        for vm in list(self._cluster.vms.values()):
            for volid in vm.volids():
                if (stored := self._cluster.stores.find(volid, vm.node)) and stored.content == "images":
                    await self._cluster.stores.free(stored)
        for stored in [one for one in self._cluster.stores.volumes.values() if one.content == "images"]:
            await self._cluster.stores.free(stored)
        self._cluster.reset()
        self._faults.clear()
        self._calls.clear()


def state_of(cluster: Cluster) -> dict[str, Any]:
    """A summary for people and tests."""
    return {
        "version": cluster.release.version,
        "quorate": cluster.quorate,
        "time": cluster.clock.time(),
        "nodes": {name: {"online": node.online} for name, node in cluster.nodes.items()},
        "vms": {
            str(vm.vmid): {"name": vm.name, "node": vm.node, "status": vm.status, "lock": vm.lock, "config": vm.config}
            for vm in cluster.vms.values()
        },
        "volumes": [
            {"volid": one.volid, "node": one.node, "size": one.size, "vmid": one.vmid, "content": one.content}
            for one in cluster.stores.volumes.values()
        ],
        "tasks": [
            {"upid": task.upid, "type": task.type, "id": task.id, "status": task.status or "running"}
            for task in cluster.tasks.tasks.values()
        ],
    }
