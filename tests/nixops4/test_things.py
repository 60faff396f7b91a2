"""All that networks describe under `resources`, as resources of NixOps 4: each kind of the registry."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from nixops_proxmox.core.graph import Ref
from nixops_proxmox.errors import SpecError, StateError
from nixops_proxmox.kinds.registry import find_resource_types
from nixops_proxmox.lab.routers.vyos import VyosStandIn
from nixops_proxmox.nixops4.messages import Create, ExtantResource, Update
from nixops_proxmox.nixops4.resources import Resources
from nixops_proxmox.operations import Options, open_given
from nixops_proxmox.spec import NetworkSpec
from nixops_proxmox.state import open_state
from tests.nixops4.dialogue import create, start_provider
from tests.nixops4.test_lab import PROXMOX, clear_state, vm
from tests.routers.serving import serve

if TYPE_CHECKING:
    from tests.e2e.bed import Bed

pytestmark = [pytest.mark.netns]

Inputs = dict[str, Any]


@dataclass(frozen=True)
class Example:
    """`changed`: inputs that change what there is; `another`: that would make it another thing. `before`: what it
    names. `id`: as the cluster or the router calls it."""

    inputs: Inputs
    changed: Inputs
    another: Inputs = field(default_factory=dict)
    before: tuple[tuple[str, Inputs], ...] = ()
    id: str = ""


SSH = {"macro": "SSH", "from": ["10.0.0.0/8"]}
HA = (("ha", {"name": "web", "profile": "lab"}), ("ha", {"name": "db", "profile": "lab"}))

EXAMPLES: Mapping[str, Example] = {
    "addressAlias": Example(
        {"name": "office", "address": "10.1.0.0/16"}, {"address": "10.2.0.0/16"}, {"alias": "desk"}
    ),
    "backupJob": Example(
        {"name": "nightly", "schedule": "02:00", "storage": "local", "machines": ["web"]},
        {"schedule": "03:00"},
    ),
    "clusterFirewall": Example({"name": "all", "policyIn": "DROP", "rules": [SSH]}, {"policyOut": "REJECT"}),
    "firewall": Example(
        {"name": "web", "rules": [SSH, {"proto": "tcp", "port": 80, "from": ["machine:db"]}]},
        {"policyOut": "DROP"},
    ),
    "ha": Example({"name": "web", "maxRestart": 2}, {"maxRestart": 3}),
    "haRule": Example(
        {"name": "near", "machines": ["web", "db"], "nodes": {"pve1": 1}, "rule": "shop-near"},
        {"comment": "the pair"},
        {"rule": "near"},
        before=HA,
        id="shop-near",
    ),
    "ipSet": Example({"name": "trusted", "addresses": ["10.1.0.0/16"]}, {"addresses": ["10.2.0.0/16"]}, {"set": "all"}),
    "mapping": Example(
        {"name": "gpu", "type": "dir", "entries": [{"node": "pve1", "path": "/srv/a"}]},
        {"entries": [{"node": "pve1", "path": "/srv/b"}]},
        {"mapping": "card"},
    ),
    "network": Example(
        {"name": "back", "vnet": "back", "subnet": "10.20.0.0/24", "gateway": "10.20.0.1"},
        {"snat": True},
        {"vnet": "rear"},
        id="back",
    ),
    "pool": Example(
        {"name": "front", "pool": "edge", "comment": "web"}, {"comment": "old"}, {"pool": "rim"}, id="edge"
    ),
    "replication": Example(
        {"name": "copy", "machine": "log", "target": "pve2"}, {"schedule": "*/5"}, {"target": "pve3"}
    ),
    "reservation": Example({"name": "lan", "domain": "lan"}, {"domain": "example.org"}, {"router": "other"}),
    "routing": Example(
        {"name": "edge", "vlans": [{"interface": "eth1", "vlan": 20}]},
        {"vlans": [{"interface": "eth1", "vlan": 21}]},
        {"router": "rim"},
    ),
    "securityGroup": Example({"name": "http", "rules": [{"macro": "HTTP"}]}, {"comment": "all"}, {"group": "www"}),
    "storage": Example(
        {"name": "isos", "storage": "shared", "content": ["snippets"]},
        {"content": ["snippets", "import"]},
        {"storage": "local"},
        id="shared",
    ),
    "template": Example(
        {"name": "base", "image": "local:import/absent.raw", "storage": "local-lvm", "comment": "of Debian"},
        {"comment": "of another one"},
    ),
    "tenant": Example(
        {"name": "red", "vnet": "red", "subnet": "10.30.0.0/24", "gateway": "10.30.0.1", "admins": ["10.0.0.0/8"]},
        {"snat": True},
        {"vnet": "blue"},
        id="red",
    ),
}
OF_ROUTERS = ("reservation", "routing")  # what is on no cluster
UNSEEN = (*OF_ROUTERS, "template")  # and what is made where machines need it, which are none here
TYPES = {name: one for name, one in find_resource_types().items() if one.model is not None}


def with_profile(kind: str, inputs: Inputs) -> Inputs:
    return inputs if kind in OF_ROUTERS else {"profile": "lab", **inputs}


def machine(name: str, address: str, **proxmox: Any) -> Inputs:
    nic = {"bridge": "vmbr0", "ipv4": {"method": "dhcp", "address": address}}
    return vm({**PROXMOX, "disks": [{"storage": "shared", "size": "1G"}], "network": [nic], **proxmox}, name)


@dataclass(frozen=True)
class Shop:
    """A lab with two machines of the same deployment, and the provider without its process."""

    bed: "Bed"
    resources: Resources
    made: Mapping[str, Mapping[str, Any]]

    @property
    def state(self) -> str:
        return self.resources.state

    def create(self, kind: str, inputs: Inputs, *, stateful: bool = True) -> Mapping[str, Any]:
        return self.resources.create(Create(type=kind, inputProperties=inputs, isStateful=stateful))

    def update(self, kind: str, before: Inputs, now: Inputs) -> Mapping[str, Any]:
        extant = ExtantResource(type=kind, inputProperties=before, outputProperties=None)
        return self.resources.update(Update(resource=extant, inputProperties=now))

    def recorded(self) -> dict[Ref, str]:
        """The phase of each thing beside machines."""
        with open_state(self.state) as state:
            record = state.deployment("nixops4")
            kinds = {one.thing for one in TYPES.values()}
            return {Ref(kind, one.name): one.phase for kind in kinds for one in record.stored(kind)}

    def changes(self) -> list[str]:
        """What was written on the cluster since this was asked last."""
        found = [f"{call['method']} {call['path']}" for call in self.bed.calls() if call["method"] != "GET"]
        self.bed.forget_calls()
        return found

    def remove_all(self) -> None:
        options = Options(deployment="nixops4", state=self.state)
        with open_given(options, NetworkSpec(name="nixops4")) as deployed:
            outcomes = deployed.remove_resources(deployed.resources.recorded())
        assert [one.error for one in outcomes if one.error is not None] == []


@pytest.fixture(scope="module")
def vyos(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """What its profile says."""
    running = {"interfaces": {"ethernet": {"eth1": {"address": "10.8.0.1/24"}}}}
    with serve(VyosStandIn("1.5", "a-key", running).app, tmp_path_factory.mktemp("vyos")) as (url, fingerprint):
        yield f'type = "vyos"\nendpoint = "{url}"\nfingerprint = "{fingerprint}"\nsecret = "a-key"\n'


@pytest.fixture(scope="module")
def shop(provider_bed: "Bed", vyos: str) -> Iterator[Shop]:
    """Two machines, made once, one on ZFS, a router that dnsmasq would be, and one that VyOS would be."""
    from tests.e2e.bed import user_folders

    bed = provider_bed
    bed.reset()
    clear_state(bed)
    bed.api("POST", "/storage", storage="tank", type="zfspool", pool="tank")
    folder = bed.home / "hosts.d"
    folder.mkdir(exist_ok=True)
    file = bed.home / "config" / "nixops-proxmox" / "routers.toml"
    file.write_text(
        "".join(f'[{name}]\ntype = "dnsmasq"\ndirectory = "{folder}"\nreload = "true"\n' for name in ("lan", "other"))
        + "".join(f"[{name}]\n{vyos}" for name in ("edge", "rim"))
    )
    file.chmod(0o600)
    with start_provider(bed.environment, bed.home / "things.log") as provider:
        made = {
            name: provider.ask_outputs(create("vm", machine(name, f"10.9.0.2{number}")))
            for number, name in enumerate(("web", "db"))
        }
        disks = [{"storage": "tank", "size": "1G"}]
        provider.ask_outputs(create("vm", machine("log", "10.9.0.22", disks=disks, node="pve1")))
    with pytest.MonkeyPatch.context() as patch:
        for name, value in user_folders(bed.home).items():
            patch.setenv(name, value)
        state = str(bed.home / "state" / "nixops-proxmox" / "state.sqlite")
        yield Shop(bed, Resources(state=state), made)
    file.unlink()
    bed.reset()
    bed.api("DELETE", "/storage/tank")
    clear_state(bed)


def test_every_kind_has_a_resource_type_and_an_example_here() -> None:
    assert set(TYPES) == set(EXAMPLES)
    assert all(one.stateful for one in TYPES.values()), "each could be forgotten"


OFTEN = ("firewall", "ha", "network", "pool", "reservation", "routing")  # the others: once a week
WHEN = [pytest.param(one, marks=() if one in OFTEN else pytest.mark.weekly) for one in sorted(EXAMPLES)]


@pytest.mark.parametrize("kind", WHEN)
def test_a_thing_is_made_once_changed_and_never_becomes_another(shop: Shop, kind: str) -> None:
    example = EXAMPLES[kind]
    for other, told in example.before:
        shop.create(other, told)
    inputs = with_profile(kind, example.inputs)
    ref, name = Ref(TYPES[kind].thing, example.inputs["name"]), example.inputs["name"]
    shop.changes()

    outputs = shop.create(kind, inputs)
    assert outputs == {"name": name, "id": example.id or name}
    assert shop.changes() or kind in UNSEEN
    assert shop.create(kind, inputs) == outputs, "the answer was lost, and it is asked again"
    assert shop.changes() == [] and shop.recorded()[ref] == "present"

    changed = inputs | example.changed
    assert shop.update(kind, inputs, changed) == outputs
    assert shop.changes() or kind in UNSEEN
    assert shop.update(kind, changed, changed | {"refresh": "again"}) == outputs
    assert shop.changes() == []

    if example.another:
        with pytest.raises(SpecError, match="it exists as another thing") as refused:
            shop.update(kind, changed, changed | example.another)
        assert f"--resource {ref.kind}/{name}" in refused.value.hint
    for wrong, says in (
        ({"name": "other"}, "cannot change from"),
        ({"colour": "red"}, f"{kind}.colour: unknown input"),
    ):
        with pytest.raises(SpecError, match=says):
            shop.update(kind, changed, changed | wrong)
    with pytest.raises(StateError, match="must be stateful"):
        shop.create(kind, inputs, stateful=False)
    assert shop.changes() == [] and shop.recorded()[ref] == "present"
    shop.remove_all()
    assert shop.recorded() == {}
