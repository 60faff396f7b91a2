"""What other tools are told: each format is whole, whatever the record has in it."""

import json
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]

from nixops_proxmox.errors import SshRefused
from nixops_proxmox.messages.exports import ansible, drawing, lists, ssh_config
from nixops_proxmox.model import Address, Endpoint, Facts, Machine, Phase, Reach
from nixops_proxmox.operations.exporting import Exported, Wire, export_machines
from nixops_proxmox.spec import MachineSpec, Nic, Ssh
from nixops_proxmox.ssh.argv import Access
from nixops_proxmox.ssh.known_hosts import find_trusted
from nixops_proxmox.state import Stored
from nixops_proxmox.texts import json_text

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJj6CZoPEIpkjaBGEwXVVIGdpk2fC1wdVzs0rgjIFN0B"
EVIL = 'a\nHost *\n  ProxyCommand touch /tmp/owned\r"\' {{ lookup("pipe", "id") }} \\ <b>#; \u202e\x00| ]'


def exported(name: str = "web", **more: Any) -> Exported:
    endpoint = more.pop("endpoint", Endpoint("10.0.0.5"))
    access = Access(endpoint, Path("/s/known_hosts/web"), Path("/s/id ed"), f"{name}.shop")
    plain: dict[str, Any] = {
        "profile": "mgmt",
        "node": "pve1",
        "vmid": 100,
        "tags": ("db", "eu-1"),
        "wires": (Wire("net0", "vmbr0", "20", "bc:24:11:00:00:01"),),
        "addresses": (_address("10.0.0.5"), _address("fd00::5"), _address("fe80::5")),
        "host_keys": (KEY,),
        "access": access,
    }
    return Exported(name, "shop", "ready", **{**plain, **more})


def _address(text: str) -> Address:
    return Address(ip_address(text), Reach.PRIVATE)


HOSTILE = exported(
    profile=EVIL, node=EVIL, tags=(EVIL,), wires=(Wire(EVIL, EVIL, EVIL, EVIL),), volumes=(EVIL,)
)  # what PVE and old records may say; names and endpoints are looked at before


# From the record.


@dataclass
class Record:
    name: str = "shop"
    things: list[Stored] = field(default_factory=list)

    def stored(self, kind: str) -> Iterable[Stored]:
        return [one for one in self.things if one.kind == kind]


@dataclass
class Known:
    """A deployment, as much as an export needs of it."""

    known: list[Machine]
    specs: dict[str, MachineSpec] = field(default_factory=dict)
    record: Any = field(default_factory=Record)
    broken: bool = False

    def machines(self) -> list[Machine]:
        return self.known

    def described(self) -> list[str]:
        return list(self.specs)

    def spec(self, name: str) -> MachineSpec:
        return self.specs[name]

    def believed_access(self, name: str) -> Access | None:
        if self.broken:
            raise SshRefused(f"{name}: the jump host is unusable")
        machine = next(one for one in self.known if one.name == name)
        assert machine.facts.endpoint is not None
        return Access(machine.facts.endpoint, Path("/s/kh"), alias=f"{name}.shop")


def machine(name: str = "web", phase: Phase = Phase.READY, **more: Any) -> Machine:
    facts = {"vmid": 100, "node": "pve1", "profile": "mgmt", "host_key": KEY, "endpoint": Endpoint("10.0.0.5")}
    return Machine("shop", name, phase, Facts(**{**facts, **more}))


def names(known: Known) -> list[str]:
    return [one.name for one in known.machines()]


def test_tags_and_networks_come_from_the_vm_as_the_last_deploy_left_it() -> None:
    applied = {
        "tags": "db;eu-1",
        "net0": "virtio=BC:24:11:00:00:01,bridge=vmbr0,tag=20",
        "net1": "sha256:0123456789abcdef",  # too long to be kept
    }
    known = Known([machine(applied=applied)])
    known.record.things.append(Stored("volume", "data", "attached", {"machine": "web"}))
    known.record.things.append(Stored("volume", "parked", "parked", {"machine": "web"}))
    (one,), left_out = export_machines(known, names(known))
    assert (one.tags, left_out) == (("db", "eu-1"), [])
    assert one.wires == (Wire("net0", "vmbr0", "20", "bc:24:11:00:00:01"),)
    assert one.volumes == ("data",)


def test_the_description_where_there_is_one_says_more_than_the_record() -> None:
    spec = MachineSpec(
        name="new", tags=("db",), network=(Nic(slot="net0", bridge="vmbr1", tag=7),), ssh=Ssh(), volumes=("data",)
    )
    known = Known([Machine("shop", "new")], {"new": spec})
    (one,), _ = export_machines(known, ["new"])
    assert (one.tags, one.wires, one.volumes) == (("db",), (Wire("net0", "vmbr1", "7"),), ("data",))
    assert one.access is None
    assert lists.hosts_lines([one])[1:] == []
    assert [dot.name for dot in drawing.draw([one])[0]] == ["default", "new", "vmbr1", "data"]


@pytest.mark.parametrize("phase", [Phase.ABSENT, Phase.RESERVED, Phase.LOST])
def test_what_does_not_exist_is_not_exported(phase: Phase) -> None:
    known = Known([machine(phase=phase)])
    assert export_machines(known, ["web"]) == ([], [])


@pytest.mark.parametrize(
    "endpoint",
    [
        Endpoint("10.0.0.5\n  ProxyCommand id"),
        Endpoint("-oProxyCommand=id"),
        Endpoint("10.0.0.5", user="root\nHost *"),
        Endpoint("10.0.0.5", user="-l"),
        Endpoint("10.0.0.5", jump="gate\n  ProxyCommand id"),
        Endpoint("10.0.0.5", jump="gate,-oProxyCommand=id"),
        Endpoint("10.0.0.5", jump='gate",evil'),
        Endpoint("{{lookup}}"),
    ],
    ids=str,
)
def test_an_endpoint_that_no_program_can_be_given_is_left_out_and_said(endpoint: Endpoint) -> None:
    (one,), told = export_machines(Known([machine(endpoint=endpoint)]), ["web"])
    assert one.access is None and len(told) == 1 and told[0].startswith("web: ")
    for text in texts([one]).values():
        assert "ProxyCommand" not in text and "lookup" not in text and "Host *" not in text


def test_a_name_that_no_machine_can_have_is_left_out_and_said() -> None:
    known = Known([machine(EVIL), machine()])
    found, told = export_machines(known, names(known))
    assert [one.name for one in found] == ["web"]
    assert len(told) == 1 and "\n" not in told[0] and "left out" in told[0]


def test_a_jump_host_that_cannot_be_used_leaves_its_machine_out_alone() -> None:
    (one,), told = export_machines(Known([machine()], broken=True), ["web"])
    assert one.access is None and told == ["web: web: the jump host is unusable"]


# The formats.


def texts(machines: list[Exported]) -> dict[str, str]:
    """All that can be printed, by format."""
    return {
        "ansible": json_text(ansible.list_json(machines)),
        "static": ansible.static_text(machines),
        "ssh-config": "\n".join(ssh_config.config_lines(machines)) + "\n",
        "known_hosts": ssh_config.pinned_text(machines),
        "hosts": "\n".join(lists.hosts_lines(machines)) + "\n",
        "prometheus": json_text(lists.prometheus_json(machines)),
        "terraform": json_text(lists.terraform_json(machines)),
        "external": json_text(lists.external_json(machines)),
        "dot": "\n".join(drawing.dot_lines(machines)) + "\n",
        "mermaid": "\n".join(drawing.mermaid_lines(machines)) + "\n",
    }


PLAIN, STRANGE = texts([exported(volumes=("data",))]), texts([HOSTILE])
WITH_LINES = ("static", "ssh-config", "known_hosts", "hosts", "dot", "mermaid")


@pytest.mark.parametrize("name", sorted(PLAIN))
def test_hostile_values_break_no_format(name: str) -> None:
    """Whatever is in a value, the text has as many lines as with a harmless one, and all of it can be printed."""
    told = STRANGE[name]
    assert told.replace("\n", "").isprintable()
    assert name not in WITH_LINES or len(told.splitlines()) <= len(PLAIN[name].splitlines())
    if name in ("ansible", "prometheus", "terraform", "external"):
        json.loads(told)
    if name in ("ssh-config", "known_hosts", "hosts"):
        assert "ProxyCommand" not in told


def test_ansible_has_groups_by_tag_node_and_hypervisor() -> None:
    found = ansible.list_json([exported(), exported("db", tags=("db",), endpoint=Endpoint("fd00::6", 2222, "op"))])
    assert found["tag_db"] == {"hosts": ["web", "db"]} and found["tag_eu_1"] == {"hosts": ["web"]}
    assert found["node_pve1"] == found["hypervisor_mgmt"] == found["deployment_shop"] == {"hosts": ["web", "db"]}
    assert set(found["all"]["children"]) == set(found) - {"all", "_meta"} | {"ungrouped"}
    variables = found["_meta"]["hostvars"]["db"]
    assert (variables["ansible_host"], variables["ansible_port"], variables["ansible_user"]) == ("fd00::6", 2222, "op")
    assert variables["ansible_become_method"] == "sudo"
    assert variables["ansible_ssh_private_key_file"] == "/s/id ed"
    words = shlex.split(variables["ansible_ssh_common_args"])
    assert {"StrictHostKeyChecking=yes", "UserKnownHostsFile=/s/known_hosts/web", "HostKeyAlias=db.shop"} <= set(words)
    assert ansible.host_json([exported()], "web")["proxmox_vmid"] == 100
    assert ansible.host_json([exported()], "nobody") == {}


def test_the_static_inventory_says_the_same_as_the_script() -> None:
    machines = [exported(), exported("db", tags=())]
    script, static = ansible.list_json(machines), yaml.safe_load(ansible.static_text(machines))["all"]
    assert static["hosts"] == script["_meta"]["hostvars"]
    assert {name: list(group["hosts"]) for name, group in static["children"].items()} == {
        name: group["hosts"] for name, group in script.items() if name not in ("all", "_meta")
    }
    assert yaml.safe_load(ansible.static_text([])) == {"all": {"hosts": {}, "children": {}}}


def test_ansible_gets_no_template() -> None:
    """Neither from the script nor from the file: what has a brace is marked as text that is only text."""
    found = ansible.list_json([HOSTILE])["_meta"]["hostvars"]["web"]
    assert found["proxmox_node"] == {"__ansible_unsafe": EVIL} and found["proxmox_tags"] == [{"__ansible_unsafe": EVIL}]
    braced = [line for line in STRANGE["static"].splitlines() if "{{" in line]
    assert len(braced) == 3 and all("!unsafe" in line for line in braced)


def test_a_jump_host_in_the_same_file_goes_by_its_name_there() -> None:
    gate = exported("gate", endpoint=Endpoint("10.0.0.1"))
    inner = exported("inner", endpoint=Endpoint("10.1.0.2", jump="root@10.0.0.1:22"))
    deep = exported("deep", endpoint=Endpoint("10.2.0.2", jump="root@10.0.0.1:22,root@10.1.0.2:22"))
    far = exported("far", endpoint=Endpoint("10.3.0.2", jump="bastion,root@10.1.0.2:22"))
    text = "\n".join(ssh_config.config_lines([gate, inner, deep, far]))
    jumps = re.findall("ProxyJump (.*)", text)
    assert jumps == ["none", "gate.shop", "inner.shop", "bastion,root@10.1.0.2:22"]
    _, edges = drawing.draw([gate, inner, deep, far])
    ways = [(edge.begin.name, edge.end.name) for edge in edges if edge.dashed]
    assert ways == [("gate", "inner"), ("inner", "deep"), ("bastion", "10.1.0.2"), ("10.1.0.2", "far")]


def test_the_ssh_configuration_pins_what_it_says(tmp_path: Path) -> None:
    """As ssh itself reads it."""
    behind = exported("db", endpoint=Endpoint("fd00::6%eth0", 2222, "op", jump="web"))
    config, machines = tmp_path / "shop", [exported(), behind]
    known = ssh_config.known_hosts_beside(config)
    config.write_text("\n".join(ssh_config.config_lines(machines, known)) + "\n")
    known.write_text(ssh_config.pinned_text(machines))
    including = tmp_path / "config"
    including.write_text(f"Include {tmp_path}/sho*\nHost *\n  StrictHostKeyChecking no\n")
    said = ssh_says(including, "db")
    assert (said["hostname"], said["port"], said["user"]) == ("fd00::6%eth0", "2222", "op")
    assert (said["proxyjump"], said["hostkeyalias"]) == ("web", "db.shop")
    assert (said["userknownhostsfile"], said["stricthostkeychecking"]) == (str(known), "true")
    assert (said["identityfile"], said["identitiesonly"]) == ("/s/id ed", "yes")
    assert ssh_says(including, "web.shop")["hostname"] == "10.0.0.5"
    assert find_trusted("10.0.0.5", 22, [known], "db.shop").keys == (KEY,)
    assert known.name.startswith("."), "`Include folder/*` must not read it"


def ssh_says(config: Path, host: str) -> dict[str, str]:
    argv = ["ssh", "-F", str(config), "-G", host]
    done = subprocess.run(argv, capture_output=True, text=True, check=True)
    return dict(line.partition(" ")[::2] for line in done.stdout.splitlines())


def test_options_of_the_description_are_kept_and_what_pins_the_key_is_not_undone() -> None:
    one = exported()
    assert one.access is not None
    options = {"Compression": "yes", "StrictHostKeyChecking": "no", "ProxyCommand": "id", "X\ny": "z", "Tag": "a\nb"}
    lines = ssh_config.config_lines([replace(one, access=replace(one.access, options=options))])
    assert "  Compression yes" in lines
    assert not [line for line in lines if re.search("Checking no|ProxyCommand|X|Tag", line)]


def test_a_hosts_file_has_every_address_once_and_none_that_is_link_local() -> None:
    named = exported("db", endpoint=Endpoint("db.example.org"))
    assert lists.hosts_lines([exported(), named])[1:] == [
        "10.0.0.5 web web.shop",
        "fd00::5 web web.shop",
        "10.0.0.5 db db.shop",
        "fd00::5 db db.shop",
    ]


def test_prometheus_gets_targets_and_labels_that_it_takes() -> None:
    (one,) = lists.prometheus_json([exported(endpoint=Endpoint("fd00::5")), exported("new", access=None)], 9273)
    assert one["targets"] == ["[fd00::5]:9273"]
    assert one["labels"]["machine"] == "web" and one["labels"]["tags"] == ",db,eu-1," and one["labels"]["vmid"] == "100"
    for label, value in lists.prometheus_json([HOSTILE])[0]["labels"].items():
        assert re.fullmatch(r"[a-zA-Z_][a-zA-Z0-9_]*", label) and isinstance(value, str)


def test_terraform_gets_outputs_and_texts() -> None:
    output = lists.terraform_json([exported()])["machines"]
    assert (output["sensitive"], output["type"][0]) == (False, "object")
    assert set(output["type"][1]["web"][1]) == set(output["value"]["web"])
    assert output["value"]["web"]["address"] == "10.0.0.5"
    texts_only = lists.external_json([exported()])
    assert all(isinstance(value, str) for value in texts_only.values())
    assert (texts_only["web.address"], texts_only["web.vmid"], texts_only["web.tags"]) == ("10.0.0.5", "100", "db,eu-1")


def test_the_picture_has_each_thing_once_and_jumps_through_our_own_machine() -> None:
    gate = exported("gate", wires=(Wire("net0", "vmbr0"), Wire("net1", "vmbr1")))
    behind = exported("web", endpoint=Endpoint("10.9.0.2", jump="bastion,gate"), wires=(Wire("net0", "vmbr1"),))
    other = exported("far", profile="tenant", volumes=("data",))
    dots, edges = drawing.draw([gate, behind, other])
    seen = [(dot.sort, dot.name, dot.scope) for dot in dots]
    assert len(seen) == len(set(seen))
    assert ("bridge", "vmbr1", "mgmt") in seen and ("bridge", "vmbr0", "tenant") in seen, "bridges are a hypervisor's"
    jumps = [(edge.begin.sort, edge.begin.name, edge.end.name) for edge in edges if edge.dashed]
    assert jumps == [("jump", "bastion", "gate"), ("machine", "gate", "web")]
    assert '"net0, VLAN 20"' in "\n".join(drawing.dot_lines([other]))


@pytest.mark.skipif(shutil.which("dot") is None, reason="graphviz is not installed")
@pytest.mark.parametrize("one", [exported(), HOSTILE], ids=["plain", "hostile"])
def test_graphviz_draws_it(one: Exported) -> None:
    told = "\n".join(drawing.dot_lines([one]))
    done = subprocess.run(["dot", "-Tsvg"], input=told, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and "</svg>" in done.stdout, done.stderr
