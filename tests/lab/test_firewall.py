"""The firewall's API: rules by position, digests, names, refusals in PVE's words, rights, and what goes with a VM."""

from collections.abc import Iterator

import pytest

from nixops_proxmox.lab.testing import start_lab
from tests.lab.http import DISK, QEMU, Client, ok
from tests.lab.test_permissions import as_user

FIREWALL, VM = "/cluster/firewall", f"{QEMU}/100/firewall"
ACCEPT = {"type": "in", "action": "ACCEPT"}
MODIFIED = "detected modified configuration - file changed by other user? Try again."


@pytest.fixture(scope="module", params=["7.4", "8.4", "9.1"])
def lab_api(request: pytest.FixtureRequest) -> Iterator[Client]:
    with start_lab(version=request.param) as lab, Client(lab) as client:
        yield client


@pytest.fixture
def api(lab_api: Client) -> Client:
    lab_api.lab.cluster.reset()
    return lab_api


def refused(api: Client, method: str, path: str, **params: object) -> str:
    answer = api.call(method, path, {key.replace("_", "-"): value for key, value in params.items()})
    assert answer.status in (400, 500)
    errors: dict[str, str] = answer.json.get("errors") or {}
    return " ".join(f"{name}: {text}" for name, text in errors.items()) or answer.reason


def ports(api: Client, base: str) -> list[str]:
    return [rule["dport"] for rule in api.get(f"{base}/rules")]


@pytest.mark.parametrize("base", [FIREWALL, "/nodes/pve1/firewall", VM])
def test_a_rule_goes_in_front_whatever_pos_says_and_is_off(api: Client, base: str) -> None:
    for port in ("1", "2", "3"):
        ok(api, "POST", f"{base}/rules", type="in", action="ACCEPT", proto="tcp", dport=port, pos=2)
    assert ports(api, base) == ["3", "2", "1"]
    assert [rule["enable"] for rule in api.get(f"{base}/rules")] == [0, 0, 0]
    ok(api, "PUT", f"{base}/rules/0", moveto=2, comment="is not looked at")
    assert (ports(api, base), "comment" in api.get(f"{base}/rules/1")) == (["2", "3", "1"], False)
    ok(api, "PUT", f"{base}/rules/0", enable=1, proto="udp", comment="ours", delete="dport")
    shown = api.get(f"{base}/rules/0")
    assert {key: shown[key] for key in ("pos", "enable", "proto", "comment")} == {
        "pos": 0, "enable": 1, "proto": "udp", "comment": "ours"
    }  # fmt: skip
    assert "no rule at position 3" in refused(api, "DELETE", f"{base}/rules/3")


def test_a_digest_that_is_old_is_refused_and_each_write_makes_a_new_one(api: Client) -> None:
    ok(api, "POST", f"{VM}/rules", **ACCEPT)
    ok(api, "POST", f"{VM}/rules", **ACCEPT, comment="second")
    [digest] = {rule["digest"] for rule in api.get(f"{VM}/rules")}
    assert api.get(f"{VM}/rules/1")["digest"] == digest
    ok(api, "PUT", f"{VM}/rules/0", enable=1, digest=digest)
    assert refused(api, "PUT", f"{VM}/rules/0", enable=0, digest=digest) == MODIFIED
    assert refused(api, "DELETE", f"{VM}/rules/0", digest=digest) == MODIFIED
    ok(api, "DELETE", f"{VM}/rules/0", digest=api.get(f"{VM}/rules")[0]["digest"])
    options = api.get(f"{VM}/options")["digest"]
    ok(api, "PUT", f"{VM}/options", dhcp=1, digest=options)
    assert refused(api, "PUT", f"{VM}/options", dhcp=0, digest=options) == MODIFIED
    assert "no such option" in refused(api, "PUT", f"{VM}/options", delete="nonsense")


WRONG = {
    "type: invalid rule type 'forward'": {"type": "forward", "action": "DROP"},
    "action: unknown action": {"type": "in", "action": "ALLOW"},
    "macro: unknown macro": {**ACCEPT, "macro": "nothing"},
    "proto: missing property": {**ACCEPT, "dport": "22"},
    "dport: protocol 'gre' does not support ports": {**ACCEPT, "proto": "gre", "dport": "22"},
    "dport: invalid format": {**ACCEPT, "proto": "tcp", "dport": "99999"},
    "source: invalid format": {**ACCEPT, "source": "10.0.0.300"},
    "source: no such ipset": {**ACCEPT, "source": "+none"},
    "source: no such alias": {**ACCEPT, "source": "none"},
    "dest: detected mixed ipv4/ipv6": {**ACCEPT, "source": "10.0.0.1", "dest": "fd00::1"},
    "iface: value does not match": {**ACCEPT, "iface": "vmbr0"},
    "proto: parameter 'proto' already define in macro": {**ACCEPT, "macro": "SSH", "proto": "udp"},
    "icmp-type: invalid icmp-type": {**ACCEPT, "proto": "icmp", "icmp_type": "no-route"},
    "type: property is missing": {"action": "ACCEPT"},
}


@pytest.mark.parametrize("text", WRONG)
def test_a_rule_that_is_wrong_is_refused(api: Client, text: str) -> None:
    if "forward" in text and not api.lab.cluster.release.since(8):
        text = "type: value 'forward' does not have a value"
    given = WRONG.get(text) or {"type": "forward", "action": "DROP"}
    assert text in refused(api, "POST", f"{VM}/rules", **given)
    assert api.get(f"{VM}/rules") == []


def test_forward_rules_are_of_newer_releases_and_of_hosts(api: Client) -> None:
    if not api.lab.cluster.release.since(8, 3):
        assert "'forward'" in refused(api, "POST", f"{FIREWALL}/rules", type="forward", action="DROP")
        return
    ok(api, "POST", f"{FIREWALL}/rules", type="forward", action="DROP")
    assert "cannot define REJECT" in refused(api, "POST", f"{FIREWALL}/rules", type="forward", action="REJECT")


def test_names_of_addresses(api: Client) -> None:
    ok(api, "POST", f"{FIREWALL}/aliases", name="Office", cidr="192.0.2.0/24", comment="ours")
    assert "already exists" in refused(api, "POST", f"{FIREWALL}/aliases", name="office", cidr="192.0.2.0/24")
    ok(api, "POST", f"{VM}/rules", **ACCEPT, source="office")
    assert api.get(f"{VM}/rules/0")["ipversion"] == 4
    ok(api, "POST", f"{FIREWALL}/ipset", name="web", comment="ours")
    assert "already exists" in refused(api, "POST", f"{FIREWALL}/ipset", name="web")
    ok(api, "POST", f"{FIREWALL}/ipset/web", cidr="10.0.0.7/24")
    ok(api, "POST", f"{FIREWALL}/ipset/web", cidr="office", nomatch=1, comment="not these")
    assert [one["cidr"] for one in api.get(f"{FIREWALL}/ipset/web")] == ["10.0.0.0/24", "office"]
    assert "already exists" in refused(api, "POST", f"{FIREWALL}/ipset/web", cidr="10.0.0.9/24")
    assert "a zero prefix" in refused(api, "POST", f"{FIREWALL}/ipset/web", cidr="0.0.0.0/0")
    ok(api, "PUT", f"{FIREWALL}/ipset/web/10.0.0.0%2F24", comment="net")
    assert api.get(f"{FIREWALL}/ipset/web/10.0.0.0%2F24")["comment"] == "net"
    assert refused(api, "DELETE", f"{FIREWALL}/ipset/web") == "IPSet 'web' is not empty"
    refs = {one["ref"]: one.get("scope") for one in api.get(f"{VM}/refs")}
    assert refs == dict.fromkeys(("+web", "office"), "dc" if api.lab.cluster.release.since(8) else None)
    ok(api, "DELETE", f"{FIREWALL}/ipset/web/office")
    ok(api, "DELETE", f"{FIREWALL}/ipset/web", force=1)
    ok(api, "DELETE", f"{FIREWALL}/aliases/office")  # a rule names it, and PVE does not mind
    assert api.get(f"{VM}/rules/0")["source"] == "office"


def test_groups(api: Client) -> None:
    ok(api, "POST", f"{FIREWALL}/groups", group="webs", comment="ours")
    assert "already exists" in refused(api, "POST", f"{FIREWALL}/groups", group="webs")
    assert "group" in refused(api, "POST", f"{FIREWALL}/groups", group="x" * 19)
    ok(api, "POST", f"{FIREWALL}/groups/webs", **ACCEPT, macro="https", enable=1)
    assert api.get(f"{FIREWALL}/groups/webs")[0]["macro"] == "HTTPS"
    assert "type" in refused(api, "POST", f"{FIREWALL}/groups/webs", type="group", action="other")
    ok(api, "POST", f"{VM}/rules", type="group", action="webs")
    digest = api.get(f"{FIREWALL}/groups")[0]["digest"]
    ok(api, "POST", f"{FIREWALL}/groups", group="front", rename="webs", digest=digest)
    assert api.get(f"{VM}/rules/0")["action"] == "front"
    assert refused(api, "DELETE", f"{FIREWALL}/groups/front") == "Security group 'front' is not empty"
    ok(api, "DELETE", f"{FIREWALL}/groups/front/0")
    ok(api, "DELETE", f"{FIREWALL}/groups/front")
    assert "no such security group 'front'" in refused(api, "GET", f"{FIREWALL}/groups/front")


def test_macros_are_listed(api: Client) -> None:
    assert {"SSH", "HTTPS", "DHCPv6", "Ping"} <= {one["macro"] for one in api.get(f"{FIREWALL}/macros")}


def test_a_vms_firewall_is_copied_with_it_kept_in_its_backup_and_gone_with_it(api: Client) -> None:
    api.task("POST", QEMU, {"vmid": 100, **DISK})
    ok(api, "PUT", f"{VM}/options", enable=1)
    ok(api, "POST", f"{VM}/rules", **ACCEPT)
    api.task("POST", f"{QEMU}/100/clone", {"newid": 101})
    assert api.get(f"{QEMU}/101/firewall/options")["enable"] == 1
    api.task("POST", "/nodes/pve1/vzdump", {"vmid": 100, "storage": "local"})
    api.task("DELETE", f"{QEMU}/100")
    assert (api.get(f"{VM}/rules"), "enable" in api.get(f"{VM}/options")) == ([], False)
    archive = api.get("/nodes/pve1/storage/local/content", content="backup")[0]["volid"]
    api.task("POST", QEMU, {"vmid": 102, "archive": archive})
    assert len(api.get(f"{QEMU}/102/firewall/rules")) == 1


def test_each_call_needs_its_right() -> None:
    with start_lab(version="9.1") as lab:
        with as_user(lab, ("/vms/100", "VM.Audit")) as reader:
            assert reader.call("GET", f"{VM}/rules").status == 200
            assert reader.call("POST", f"{VM}/rules", ACCEPT).reason == (
                "Permission check failed (/vms/100, VM.Config.Network)"
            )
            assert reader.call("GET", f"{FIREWALL}/groups").status == 200
            assert reader.call("GET", f"{FIREWALL}/ipset").reason == "Permission check failed (/, Sys.Audit)"
        with as_user(lab, ("/", "Sys.Audit"), ("/vms/100", "VM.Config.Network")) as other:
            assert other.call("POST", f"{VM}/rules", ACCEPT).status == 200
            assert other.call("POST", f"{FIREWALL}/ipset", {"name": "web"}).reason == (
                "Permission check failed (/, Sys.Modify)"
            )
