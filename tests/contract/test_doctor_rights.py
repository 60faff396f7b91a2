"""For every privilege: without it the doctor names it, and what he says to type makes him content; on each release."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from nixops_proxmox.lab.cluster import Bridge
from nixops_proxmox.lab.sdn_nodes import put_vnet
from nixops_proxmox.model import Level
from nixops_proxmox.pve.api.versions import Release, parse_release
from nixops_proxmox.pve.cluster.permissions import needs_of, role_line
from nixops_proxmox.spec import Nic
from tests.contract.clerk import Clerk
from tests.contract.client_bench import Bench, bare, start_bench
from tests.contract.test_client_copies import make_template
from tests.contract.test_client_doctor import problems
from tests.pve.specs import ISO

RELEASES = ("7.4", "8.4", "9.1")
README = Path(__file__).parents[2] / "README.md"
MOST = bare(
    pool="lab",
    startup="order=1",
    extra={"usb0": "mapping=stick", "ide0": "local-lvm:cloudinit"},
    install={"from": "iso", "iso": ISO},
)
STICK = {"id": "stick", "type": "usb", "map": [f"node={node},id=0951:1666" for node in ("pve1", "pve2", "pve3")]}
EVERYTHING = ("/", "/vms", "/storage")


def described(release: Release) -> Any:
    return MOST if release.has_mappings else MOST.model_copy(update={"extra": {"ide0": "local-lvm:cloudinit"}})


def wanted(version: str) -> list[str]:
    release = parse_release(version)
    needs = needs_of(described(release), release)
    return sorted({need.privileges[0] for need in needs})


@pytest.fixture
def bench(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Bench]:
    with start_bench(request.param) as made:
        root = made.another(username="root@pam", password=made.lab.root_password).client
        root._ask("POST", "/pools", {"poolid": "lab"})
        made.change(lambda: made.lab.lab.cluster.mappings.update({("usb", "stick"): dict(STICK)}))
        iso = tmp_path / ISO.rpartition("/")[2]
        iso.write_bytes(b"iso")
        made.hypervisor.media.upload("pve1", "local", iso, print, content="iso")
        yield made


@pytest.mark.parametrize(
    "bench",
    [pytest.param("7.4", marks=pytest.mark.weekly), "8.4", pytest.param("9.1", marks=pytest.mark.weekly)],
    indirect=True,
)
def test_each_missing_privilege_is_named_and_granted(bench: Bench) -> None:
    version = bench.lab.cluster.release.version
    spec = described(parse_release(version))
    for number, lacking in enumerate(wanted(version)):
        clerk = Clerk(bench, {"/": [name for name in wanted(version) if name != lacking]}, name=f"clerk{number}@pve")
        findings = clerk.examine(spec)
        assert any(f"{lacking} is missing on" in finding.text for finding in findings), lacking
        assert lacking in clerk.commands
        clerk.follow()
        after = clerk.examine(spec)
        assert [finding for finding in after if finding.level is Level.PROBLEM] == [], lacking
        assert clerk.commands == "", lacking


@pytest.mark.parametrize("bench", RELEASES, indirect=True)
def test_who_has_nothing_and_follows_can_make_and_run_the_machine(bench: Bench) -> None:
    spec = described(parse_release(bench.lab.cluster.release.version))
    clerk = Clerk(bench, {})
    clerk.examine(spec)
    clerk.follow()
    assert problems(clerk.examine(spec)) == []
    bench.hypervisor = clerk.hypervisor
    bench.created(spec)


@pytest.mark.parametrize("bench", RELEASES[1:], indirect=True)
def test_rights_on_the_vnets_own_zone_are_enough(bench: Bench) -> None:
    bench.change(lambda: put_vnet(bench.lab.cluster, "inner", "blue"))
    spec = bare(network=(Nic(slot="net0", bridge="blue"),))
    role = [name for name in wanted("8.4") if name != "SDN.Use"]
    release = parse_release(bench.lab.cluster.release.version)
    role = [name if name != "VM.Monitor" else release.agent_privilege for name in role if name != "Mapping.Use"]
    using = Clerk(bench, {"/": role, "/sdn/zones/inner": ["SDN.Use"]}, name="using@pve")
    assert problems(using.examine(spec)) == []
    seeing = Clerk(bench, {"/": role, "/sdn/zones/inner": ["SDN.Audit"]}, name="seeing@pve")
    assert any("SDN.Use is missing on /sdn/zones/inner/blue" in text for text in problems(seeing.examine(spec)))
    seeing.follow()
    assert problems(seeing.examine(spec)) == []
    blind = Clerk(bench, {"/": role}, name="blind@pve")
    assert problems(blind.examine(spec))
    blind.follow()
    assert problems(blind.examine(spec)) == []


@pytest.mark.parametrize("bench", RELEASES, indirect=True)
def test_clone_granted_on_the_template_only(bench: Bench) -> None:
    template = make_template(bench).facts.vmid
    spec = bare(install={"from": "template", "template": "plain"}, agent=True)
    release = parse_release(bench.lab.cluster.release.version)
    rights = [name for name in release.role_privileges if name != "VM.Clone"]
    without = Clerk(bench, {"/": rights}, name="without@pve")
    assert any(f"VM.Clone is missing on /vms/{template}" in text for text in problems(without.examine(spec)))
    without.follow()
    assert problems(without.examine(spec)) == []
    owner = Clerk(bench, {"/": rights, f"/vms/{template}": ["VM.Clone", "VM.Audit"]}, name="owner@pve")
    assert problems(owner.examine(spec)) == []


@pytest.mark.parametrize("bench", ["8.4"], indirect=True)
def test_what_only_root_may_set_and_a_pool_that_is_not_there(bench: Bench) -> None:
    spec = bare(pool="nowhere", extra={"usb0": "host=1234:5678"})
    found = problems(Clerk(bench, {"/": Release(8, 4).role_privileges}).examine(spec))
    assert any("there is no pool nowhere" in text for text in found)
    assert any("takes extra.usb0 only from root@pam" in text for text in found)


@pytest.mark.parametrize("bench", ["8.4"], indirect=True)
def test_bridges_are_looked_at_on_every_pinned_node(bench: Bench) -> None:
    bench.change(lambda: bench.lab.cluster.bridges.update(far=Bridge("far", nodes=("pve2",))))
    good = bare(name="good", node="pve2", network=(Nic(slot="net0", bridge="far"),))
    bad = bare(name="bad", node="pve1", network=(Nic(slot="net0", bridge="far"),))
    found = problems(Clerk(bench, {"/": Release(8, 4).role_privileges}).examine(good, bad))
    assert found == ["bridges for bad: pve1 lacks far"]


def test_readmes_role_is_the_doctors() -> None:
    text = re.sub(r"\s+", " ", README.read_text())
    assert f'pveum role add NixOpsProxmox --privs "{role_line(Release(9, 0))}"' in text
    changed = set(Release(8, 4).role_privileges) ^ set(Release(9, 0).role_privileges)
    assert changed == {"VM.Monitor", "VM.GuestAgent.Unrestricted"}
    assert "On 8, write `VM.Monitor` instead of `VM.GuestAgent.Unrestricted`" in text
    assert set(Release(8, 4).role_privileges) - set(Release(7, 4).role_privileges) == {"SDN.Use"}
    assert "On 7.4, leave out `SDN.Use` as well" in text
