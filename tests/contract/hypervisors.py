"""Several hypervisors in one network: labs beside each other, with guests that can be reached, and one file server."""

import os
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from nixops_proxmox.fleet import Outcome
from nixops_proxmox.lab.machines.simulated import Body, SimulatedDriver
from nixops_proxmox.lab.machines.simulated import Options as Guests
from nixops_proxmox.lab.machines.simulated.front import loopback_address
from nixops_proxmox.lab.storage import default_storages
from nixops_proxmox.lab.testing import RunningLab, start_lab
from nixops_proxmox.model import Machine
from nixops_proxmox.operations import Deployed, Options, open_given
from nixops_proxmox.pve.api.connection import connect
from nixops_proxmox.pve.wire.calls import Call
from nixops_proxmox.pve.wire.profiles import parse_profile
from nixops_proxmox.reach.patience import Patience
from nixops_proxmox.spec import parse_network
from nixops_proxmox.state import open_state
from tests.pace import patience

OURS = os.getpid() % 200 * 250  # of this process: others test at the same time
FAST = Patience(boot=patience(20.0), sshd=patience(20.0), busy=patience(5.0))
ISO = "local:iso/installer.iso"


@dataclass(frozen=True)
class Hypervisors:
    """Labs by their profiles, and one deployment on all of them."""

    labs: Mapping[str, RunningLab]
    folder: Path

    @property
    def profiles(self) -> Path:
        path = self.folder / "profiles.toml"
        if not path.exists():
            path.touch(mode=0o600)
            for name, lab in self.labs.items():
                self.say(name, f'endpoint = "{lab.url}"\ntoken = "{lab.token}"\nfingerprint = "{lab.fingerprint}"')
        return path

    def emptied(self, folder: Path) -> "Hypervisors":
        """The same, for another deployment."""
        for name, lab in self.labs.items():
            lab.settle()
            lab.run(lab.cluster.stop_all())
            self.change(name, lab.cluster.reset)
            for storage in default_storages():
                lab.cluster.stores.storages[storage.name] = storage
        return replace(self, folder=folder)

    def by_hand(self, profile: str, method: Any, path: str) -> None:
        """Somebody else's call, to its end."""
        lab = self.labs[profile]
        with closing(
            connect(parse_profile(profile, {"endpoint": lab.url, "token": lab.token, "ca_file": str(lab.ca_file)}))
        ) as client:
            client._sender.send(Call(method, path, {}, {}))
        lab.settle()

    def say(self, profile: str, lines: str) -> None:
        """Add lines to the profile."""
        path = self.folder / "profiles.toml"
        before = path.read_text() if path.exists() else ""
        head = f"[{profile}]\n"
        path.write_text(before.replace(head, f"{head}{lines}\n") if head in before else f"{before}{head}{lines}\n")

    def machine(self, profile: str, number: int = 1, **changes: Any) -> dict[str, Any]:
        """`number` tells its MAC and address."""
        return {
            "profile": profile,
            "disks": [{"storage": "local-lvm", "size": "64M"}],
            "memory": 256,
            "network": [{"bridge": "vmbr0", "mac": mac_of(number)}],
            "install": {"iso": ISO, "method": "configuration"},
            "endpoint": {"address": address_of(number)},
        } | changes

    @contextmanager
    def opened(self, machines: Mapping[str, Mapping[str, Any]], **options: Any) -> Iterator[Deployed]:
        resources = options.pop("resources", {})
        described = {name: {"deployment": {"proxmox": one}} for name, one in machines.items()}
        given = Options(
            deployment="shop",
            state=str(self.folder / "state.db"),
            profiles=self.profiles,
            keys=self.folder / "keys",
            patience=options.pop("patience", FAST),
            **options,
        )
        network = parse_network("shop", {"machines": described, "resources": resources})
        with open_given(given, network) as deployed:
            yield deployed

    def recorded(self, name: str = "web") -> Machine:
        with open_state(str(self.folder / "state.db")) as state:
            return state.deployment("shop").machine(name)

    def vms(self, profile: str, name: str = "web") -> list[tuple[int, str]]:
        """(VMID, power) of those of that name."""
        found = self.labs[profile].cluster.vms.values()
        return [(vm.vmid, "running" if vm.running else "stopped") for vm in found if vm.config.get("name") == name]

    def change(self, profile: str, work: Callable[[], Any]) -> None:
        """Something done to a cluster's state, on the lab's own loop."""

        async def on_loop() -> None:
            work()

        self.labs[profile].run(on_loop())


def find_obstacle() -> str:
    """Why guests cannot be reached on the loopback, at SSH's own port. Empty: they can."""
    try:
        socket.create_server((address_of(0), 22)).close()
    except OSError as error:
        return f"no guests on the loopback: {error}"
    return ""


def address_of(number: int) -> str:
    return str(loopback_address(OURS + number).ip)


def mac_of(number: int) -> str:
    return f"bc:24:11:00:00:{number:02x}"


def ends(outcomes: Sequence[Outcome]) -> dict[str, str]:
    """How it ended for each, empty if well."""
    return {
        one.name: "" if one.error is None else f"{one.error} {getattr(one.error, 'attempts', '')}" for one in outcomes
    }


@contextmanager
def start_hypervisors(
    folder: Path, nodes: Mapping[str, Sequence[str]], versions: Mapping[str, str] | None = None
) -> Iterator[Hypervisors]:
    """`nodes` and PVE's release by profile."""
    guests = Guests(body=Body.SCRIPTED, loopback=True)
    numbers = {mac_of(number): OURS + number for number in range(1, 100)}
    first: SimulatedDriver | None = None
    with ExitStack() as stack:
        labs = {}
        for name, its in nodes.items():
            driver = SimulatedDriver(folder / name / "machines", guests, numbers=numbers, beside=first)
            first = first or driver
            version = (versions or {}).get(name, "8.4")
            labs[name] = stack.enter_context(
                start_lab(folder / name, driver=driver, nodes=its, version=version, exports=folder / "exports")
            )
            iso = folder / "installer.iso"
            iso.write_bytes(b"the simulated installer\n")
            labs[name].lab.add_file("local", "iso", iso)
        yield Hypervisors(labs, folder)
