"""The real guests' side of the lab's network: a tap per NIC on its segment, DHCP and router advertisements there.

`network.py` owns the namespace, its segments and their prefixes. A VLAN of a bridge is a segment of its own, joined to
the bridge by a VLAN interface (PVE does the same on bridges that are not VLAN-aware), so that a guest which tags its
frames itself reaches it too. The operator has no address on an isolated segment: what serves DHCP there lives in one
more namespace, at the end of a veth pair.
"""

import asyncio
import contextlib
import ipaddress
import itertools
from collections.abc import Iterable, Sequence
from pathlib import Path

from nixops_proxmox.lab.machines.base import NicSlot
from nixops_proxmox.lab.network import LabNetwork, NamespaceError, Subnet, segment, subnet
from nixops_proxmox.lab.owned import end_owned, owned_argv, start_owned

LEASE_SECONDS = 3600
ISOLATED_HOST = 2  # DHCP's own address on an isolated segment: .1 is not used there
UPLINK = "uplink"
STARTED_SECONDS = 5.0


def tap_name(vmid: int, key: str) -> str:
    """PVE's own: tap101i0 is net0 of VM 101 (15 characters are all a name may have)."""
    return f"tap{vmid}i{key.removeprefix('net')}"


def tap_lines(tap: str, bridge: str, mtu: int | None = None) -> list[str]:
    """`ip -batch` lines for a NIC's tap."""
    lines = [f"tuntap add dev {tap} mode tap", f"link set {tap} master {bridge}"]
    return [*lines, *([f"link set {tap} mtu {mtu}"] if mtu else []), f"link set {tap} up"]


def vlan_lines(bridge: str, tag: int) -> list[str]:
    """Join the tag's segment to the bridge."""
    name, trunk = segment(bridge, tag), segment(bridge)
    vlan = f"{trunk}.{tag}"[-15:]
    return [
        f"link add link {trunk} name {vlan} type vlan id {tag}",
        f"link set {vlan} master {name}",
        f"link set {vlan} up",
    ]


def dnsmasq_argv(interface: str, net: Subnet, folder: Path, *, router: bool) -> list[str]:
    """--no-daemon: it stays ours, and does not change its user (which a user namespace forbids)."""
    argv = [
        *("dnsmasq", "--no-daemon", "--conf-file=/dev/null", "--port=0", "--no-ping", "--dhcp-authoritative"),
        *(f"--interface={interface}", "--bind-interfaces", "--except-interface=lo", "--user=", "--group="),
        *(f"--dhcp-leasefile={folder}/leases", f"--dhcp-hostsdir={folder}/hosts", "--quiet-dhcp6", "--quiet-ra"),
    ]
    if net.v4:
        first, last = net.v4[50], net.v4[250]
        argv.append(f"--dhcp-range={first},{last},{net.v4.netmask},{LEASE_SECONDS}")
        argv += [] if router else ["--dhcp-option=option:router"]
        argv.append("--dhcp-option=option:dns-server")
    argv += [f"--dhcp-range={prefix.network_address},ra-stateless,{prefix.prefixlen}" for prefix in net.v6]
    if net.v6:
        # Lifetime 0 on an isolated segment: prefixes, but no way out.
        argv += ["--enable-ra", f"--ra-param={interface},4" + ("" if router else ",0")]
    return argv


def isolated_script(net: Subnet, argv: Sequence[str]) -> list[str]:
    """Wait for our end of the veth pair, give it addresses, serve."""
    addresses = [f"{net.v4[ISOLATED_HOST]}/{net.v4.prefixlen}"] if net.v4 else []
    addresses += [f"{prefix[ISOLATED_HOST]}/{prefix.prefixlen}" for prefix in net.v6]
    lines = [
        f"tries=100; until ip link show {UPLINK} >/dev/null 2>&1",
        "do tries=$((tries - 1)); [ $tries -gt 0 ] || exit 1; sleep 0.05; done",
        "ip link set lo up",
        *(f"ip address add {address} dev {UPLINK}{' nodad' if ':' in address else ''}" for address in addresses),
        f"ip link set {UPLINK} up",
        'exec "$@"',
    ]
    return ["unshare", "-n", "--", "sh", "-ec", "\n".join(lines), "sh", *argv]


def reservation(mac: str, address: str) -> str:
    return f"{mac.lower()},{address}\n"


class Bridges:
    """Taps and DHCP on the segments of one lab's network. `directory`: pid files, leases, logs."""

    def __init__(self, network: LabNetwork, directory: Path) -> None:
        self._network = network
        self._directory = directory
        self._ready: set[str] = set()
        self._turn = asyncio.Lock()
        self._servers: dict[str, asyncio.subprocess.Process] = {}
        self._numbers = itertools.count()
        self.has_trunks = True  # False: the kernel has no 802.1Q, frames that a guest tags itself go nowhere

    async def attach(self, vmid: int, nic: NicSlot) -> str:
        """A tap for the NIC, on its segment; its name. Raises NamespaceError."""
        name = await self.ensure(nic.bridge, nic.tag)
        tap = tap_name(vmid, nic.key)
        await self.detach(tap)
        mtu = dict(nic.options).get("mtu", "1")
        await self._network.holder.ip(tap_lines(tap, name, int(mtu) if mtu not in ("", "1") else None))
        return tap

    async def move(self, tap: str, bridge: str, tag: int) -> None:
        """Another bridge or tag, while the NIC stays plugged in."""
        name = await self.ensure(bridge, tag)
        await self._network.holder.ip([f"link set {tap} master {name}"])

    async def detach(self, tap: str) -> None:
        """A tap that is not there is fine."""
        with contextlib.suppress(NamespaceError):
            await self._network.holder.ip([f"link delete {tap}"])

    async def ensure(self, bridge: str, tag: int = 0) -> str:
        """The segment, with DHCP and router advertisements on it if it is not silent; its Linux bridge's name."""
        async with self._turn:
            name = await self._network.ensure_segment(bridge, tag)
            if name not in self._ready:
                if tag:
                    await self._join(bridge, tag)
                net = subnet(bridge, tag)
                if not net.silent:
                    await self._serve(name, net)
                self._ready.add(name)
            return name

    async def _join(self, bridge: str, tag: int) -> None:
        """For guests that tag their frames themselves. Access ports need none of it: their segment is their own."""
        await self._network.ensure_segment(bridge)
        try:
            await self._network.holder.ip(vlan_lines(bridge, tag))
        except NamespaceError as error:
            if "Unknown device type" not in str(error):
                raise
            self.has_trunks = False

    def reserve(self, bridge: str, tag: int, mac: str, address: str) -> None:
        """From now on DHCP gives `address` to `mac` there; dnsmasq watches the folder."""
        net = subnet(bridge, tag)
        if net.v4 is None or ipaddress.IPv4Address(address) not in net.v4:
            raise ValueError(f"{address} is not an address of {bridge}")
        hosts = self._folder(segment(bridge, tag)) / "hosts"
        hosts.mkdir(parents=True, exist_ok=True)
        (hosts / mac.lower().replace(":", "")).write_text(reservation(mac, address), encoding="utf-8")

    async def _serve(self, name: str, net: Subnet) -> None:
        folder = self._folder(name)
        (folder / "hosts").mkdir(parents=True, exist_ok=True)
        argv = dnsmasq_argv(UPLINK if net.isolated else name, net, folder, router=not net.isolated)
        if net.isolated:
            argv = isolated_script(net, argv)
        process = await start_owned(
            self._network.enter_argv(owned_argv(argv)),
            pid_file=folder / "dnsmasq.pid", log=folder / "dnsmasq.log", cwd=folder,
        )  # fmt: skip
        self._servers[name] = process
        if net.isolated:
            await self._plug_in(name, process.pid)

    async def _plug_in(self, name: str, pid: int) -> None:
        """The veth pair to the namespace of `pid`, once it has one of its own."""
        lab = Path(f"/proc/{self._network.pid}/ns/net").readlink()
        async with asyncio.timeout(STARTED_SECONDS):
            while Path(f"/proc/{pid}/ns/net").readlink() in (lab, Path("/proc/self/ns/net").readlink()):
                await asyncio.sleep(0.01)
        veth = f"dhcp{next(self._numbers)}"
        await self._network.holder.ip(
            [
                f"link add {veth} type veth peer name {UPLINK} netns {pid}",
                f"link set {veth} master {name}",
                f"link set {veth} up",
            ]
        )

    def _folder(self, name: str) -> Path:
        return self._directory / name

    def servers(self) -> Iterable[str]:
        """Segments whose DHCP server runs."""
        return [name for name, process in self._servers.items() if process.returncode is None]

    async def close(self) -> None:
        servers, self._servers = self._servers, {}
        for name, process in servers.items():
            await end_owned(process, self._folder(name) / "dnsmasq.pid")
