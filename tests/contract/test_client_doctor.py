"""What the doctor finds on the lab, with rights and without."""

from collections.abc import Iterator

import pytest

from nixops_proxmox.model import Finding, Level
from nixops_proxmox.pve.api.versions import Release, parse_release
from nixops_proxmox.pve.cluster.doctor import examine
from nixops_proxmox.pve.cluster.permissions import grant_commands, missing, needs_of
from tests.contract.clerk import Clerk
from tests.contract.client_bench import Bench, bare, start_bench
from tests.pve.specs import ISO, full_spec


@pytest.fixture(params=["7.4", "8.4", "9.1"])
def bench(request: pytest.FixtureRequest) -> Iterator[Bench]:
    with start_bench(request.param) as made:
        yield made


def problems(findings: list[Finding]) -> list[str]:
    return [f"{finding.subject}: {finding.text}" for finding in findings if finding.level is Level.PROBLEM]


def test_a_good_cluster_has_no_problem(bench: Bench) -> None:
    findings = examine(bench.hypervisor.client, None, [bare()])
    assert problems(findings) == []
    assert {"connection", "permissions", "nodes", "storages", "place for web", "bridges"} <= {
        f.subject for f in findings
    }


def test_missing_rights_are_named_with_the_commands_that_grant_them(bench: Bench) -> None:
    clerk = Clerk(bench, roles={})
    found = problems(clerk.examine(bare()))
    assert any("VM.Allocate is missing on /vms" in text for text in found)
    assert any("Datastore.AllocateSpace is missing on /storage/local-lvm" in text for text in found)
    assert any("no node fits" in text or "place for web" in text for text in found)
    clerk.follow()
    assert problems(clerk.examine(bare())) == []
    assert clerk.commands == ""


def test_a_missing_iso_and_an_unfit_cluster_are_said(bench: Bench) -> None:
    described = bare(install={"from": "iso", "iso": ISO}, memory=1 << 20)
    found = problems(examine(bench.hypervisor.client, None, [described]))
    assert any(ISO in text for text in found)
    assert any("no node fits" in text for text in found)


def test_no_connection_is_one_finding(bench: Bench) -> None:
    refused = bench.another(token="deploy@pve!lab=wrong").client
    (finding,) = examine(refused)
    assert finding.level is Level.PROBLEM
    assert finding.hint


@pytest.mark.parametrize(
    ("text", "release"),
    [("7.4-3", Release(7, 4, 3)), ("8.4.21", Release(8, 4, 21)), ("9.0.3", Release(9, 0, 3)), ("9.1", Release(9, 1))],
)
def test_a_release_is_read(text: str, release: Release) -> None:
    assert parse_release(text) == release


def test_each_release_is_asked_only_for_privileges_that_it_knows() -> None:
    old, middle, new = Release(7, 4), Release(8, 4), Release(9, 0)
    assert "SDN.Use" not in old.role_privileges
    assert "VM.Monitor" in middle.role_privileges
    assert "VM.Monitor" not in new.role_privileges
    assert not [need for need in needs_of(full_spec(), old) if "SDN.Use" in need.privileges]
    paths = {need.paths for need in needs_of(full_spec(), new) if "SDN.Use" in need.privileges}
    trunk = {(f"/sdn/zones/localnetwork/vmbr1/{vlan}",) for vlan in (2, 5, 6, 7)}
    assert paths == {("/sdn/zones/localnetwork/vmbr0/20",), *trunk}


def test_rights_come_from_above_only_where_they_propagate() -> None:
    needs = [need for need in needs_of(bare(), Release(8, 4)) if need.privileges == ("VM.Allocate",)]
    assert missing(needs, {"/": {"VM.Allocate": True}}) == ()
    assert missing(needs, {"/": {"VM.Allocate": False}}) == tuple(needs)
    assert missing(needs, {"/": {"VM.Allocate": True}, "/vms": {"VM.Audit": True}}) == tuple(needs)
    pooled = [need for need in needs_of(bare(pool="lab"), Release(8, 4)) if need.privileges == ("VM.Audit",)]
    assert missing(pooled, {"/pool/lab": {"VM.Audit": True}}) == ()


def test_a_tokens_user_is_granted_too() -> None:
    needs = needs_of(bare(), Release(9, 0))
    commands = grant_commands(needs, "u@pve!t", Release(9, 0))
    assert commands[0].startswith("pveum role add NixOpsProxmox ")
    assert "pveum acl modify /vms --roles NixOpsProxmox --users 'u@pve' --tokens 'u@pve!t'" in commands
    assert grant_commands((), "u@pve", Release(9, 0)) == ()
