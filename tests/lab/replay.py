"""Replay requests that were recorded on a real node (pve-manager 8.4.21) against the lab, and say what differs."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urlencode

from nixops_proxmox.lab.access import Token, User
from nixops_proxmox.lab.cluster import Bridge
from nixops_proxmox.lab.machines.base import AgentError, AgentTimeout
from nixops_proxmox.lab.permissions import Entry
from nixops_proxmox.lab.storage import Storage
from nixops_proxmox.lab.testing import RunningLab
from tests.lab.http import Answer, Client

UPID = re.compile(r"UPID:[\w-]+:[0-9A-F]{8}:[0-9A-F]{8,9}:[0-9A-F]{8}:[^:\s]+:[^:\s]*:[^:\s]+:")
EVERYTHING = ("images", "iso", "vztmpl", "backup", "snippets", "import")
PASSWORD = "lab-password-1"
# Values that two hosts never share; only whether they are there, and of which type, is compared.
VOLATILE = set(
    [
        "digest",
        "vmgenid",
        "meta",
        "cpu",
        "mem",
        "maxmem",
        "maxdisk",
        "disk",
        "uptime",
        "netin",
        "netout",
        "diskread",
        "diskwrite",
        "pid",
        "pstart",
        "starttime",
        "endtime",
        "time",
        "localtime",
        "snaptime",
        "ctime",
        "used",
        "used_fraction",
        "avail",
        "total",
        "maxcpu",
        "cgroup-mode",
        "ssl_fingerprint",
        "upid",
        "ticket",
        "CSRFPreventionToken",
        "cert",
        "password",
        "value",
        "port",
        "uid",
        "id",
        "msg",
        "address",
        "cidr",
        "netmask",
        "dns1",
        "ip",
        "nodeid",
        "mac_prefix",
        "allowed-tags",
        "content",
        "comment",
        "parent",
        "nics",
    ]
)


def storages() -> list[Storage]:
    """As on the recording host."""
    return [
        Storage("local", "dir", EVERYTHING, path="/var/lib/vz"),
        Storage("other", "dir", ("images",), path="/var/lib/vz-other"),
        Storage("isoonly", "dir", ("iso",), path="/var/lib/vz-iso"),
        Storage("offline", "dir", ("images",), path="/var/lib/vz-off", disabled=True),
    ]


class Replay:
    """The recording host's users, files and guests, and the identifiers that differ."""

    def __init__(self, lab: RunningLab, records: list[dict[str, Any]]) -> None:
        self.lab = lab
        self.recorded = {
            one["request"]["url"].rpartition("/")[2]: one["body_json"]["data"]["result"]
            for one in records
            if "/qemu/150/agent/" in one["request"]["url"]
            and one["request"]["method"] == "GET"
            and "result" in str(one.get("body_json"))
        }
        self.upids: dict[str, str] = {}
        self.digests: dict[str, str] = {}
        self.pids: dict[str, str] = {}
        self.ticket = self.csrf = ""
        self._prepare()
        self.clients: dict[str, Client] = {}

    def _prepare(self) -> None:
        access = self.lab.cluster.access
        for userid, role in (("deploy@pve", "Administrator"), ("audit@pve", "PVEAuditor"), ("nobody1@pve", "")):
            access.users.setdefault(userid, User(userid)).password = PASSWORD
            if role and userid != "deploy@pve":
                access.permissions.entries.append(Entry("/", "user", userid, role))
        now = int(self.lab.cluster.clock.time())
        self.tokens = {
            "deploy@pve!full": Token("full", "s", privsep=False),
            "deploy@pve!sep": Token("sep", "s"),
            "deploy@pve!expired": Token("expired", "s", privsep=False, expire=now - 10),
            "audit@pve!ro": Token("ro", "s", privsep=False),
            "nobody1@pve!none": Token("none", "s", privsep=False),
        }
        for name, token in self.tokens.items():
            access.users[name.partition("!")[0]].tokens[token.name] = token
        self.lab.cluster.bridges = {"vmbr0": Bridge("vmbr0", "10.99.0.1/24", vlan_aware=False)}
        self.lab.cluster.options["mac_prefix"] = "BC:24:11"
        self._add_iso("installer.iso", 358400)

    def _add_iso(self, name: str, size: int) -> None:
        path = self.lab.cluster.directory / name
        path.write_bytes(b"\0" * size)
        self.lab.lab.add_file("local", "iso", path)

    # Before a record: what the recorder did without writing it down.

    def arrange(self, index: int, record: Mapping[str, Any]) -> None:
        request, label = record["request"], record["label"]
        if index == 0:
            self._make_first_vm()
        if index == 345:
            self._remove(100)
        if index == 558:
            for vmid in list(self.lab.cluster.vms):
                self._remove(vmid)
            self._add_iso("agent.iso", 18880512)
        if request["method"] == "POST" and request["url"].endswith("/qemu") and record["status"] == 200:
            vmid = int(parse_qs(str(request["body"])).get("vmid", ["0"])[0]) or self._json_vmid(request)
            self._remove(vmid)
        self._arrange_by_label(label)

    def _json_vmid(self, request: Mapping[str, Any]) -> int:
        return int(json.loads(request["body"])["vmid"]) if "json" in str(request["content_type"]) else 0

    def _arrange_by_label(self, label: str) -> None:
        vms, guest = self.lab.cluster.vms, self.lab.driver.guest
        match label:
            case "start stopped VM":
                guest(100).alive = guest(100).obeys = False
            case "shutdown timeout=4 (guest ignores)" | "shutdown timeout=60":
                guest(100).patience = 0.5
                guest(100).silence = 0.4 if "60" in label else 0.05
            case "shutdown forceStop timeout=3":
                self.lab.settle()
                guest(100).patience = guest(100).silence = 0.05
            case "agent ping when agent not enabled and stopped":
                vms[100].config.pop("agent", None)
            case "config of locked VM":
                vms[101].config["lock"] = "backup"
            case "delete with purge":
                vms[101].config.pop("lock", None)
            case "agent VM: start":
                self._make_guest(guest(150))
            case "storage list":
                for vmid in (300, 104, 105, 106):
                    self._remove(vmid)
            case "create with import-from missing" | "create in pool" | "pool delete non-empty":
                self._remove(301)
            case "PUT digest ok":
                self.digests["ed3d7d949dacb1ff1a985857cfd21443a125dda0"] = vms[100].digest

    def _make_guest(self, guest: Any) -> None:
        """What qemu-ga itself said is answered again: PVE only passes it on."""
        for name in ("network-get-interfaces", "get-osinfo", "info", "get-time"):
            guest.answers[f"guest-{name}"] = self.recorded[name]
        guest.run = _run
        guest.answers["guest-suspend-ram"] = AgentTimeout("guest-suspend-ram")
        guest.answers["guest-set-user-password"] = AgentError("GenericError", "cannot find 'passwd' program in PATH")

    def _make_first_vm(self) -> None:
        params = (
            "vmid=100&name=web&memory=512&kvm=0&cpu=qemu64&ostype=l26&scsihw=virtio-scsi-pci&scsi0=local%3A1&agent=1&tags=Web%3Bb%3Ba"
            "&ide2=local%3Aiso%2Finstaller.iso%2Cmedia%3Dcdrom&net0=virtio%2Cbridge%3Dvmbr0&boot=order%3Dscsi0%3Bide2"
        )
        with Client(self.lab, self._headers("token deploy@pve!full")) as client:
            form = {"Content-Type": "application/x-www-form-urlencoded"}
            assert client.send("POST", "/api2/json/nodes/pve1/qemu", params.encode(), form).status == 200
            self.lab.settle()
            assert client.call("POST", "/nodes/pve1/qemu/100/status/start").status == 200
            self.lab.settle()

    def _remove(self, vmid: int) -> None:
        vm = self.lab.cluster.vms.get(vmid)
        if vm is None:
            return
        vm.config.pop("protection", None)
        vm.config.pop("lock", None)
        with Client(self.lab) as client:
            if vm.running:
                client.task("POST", f"/nodes/pve1/qemu/{vmid}/status/stop")
            client.task("DELETE", f"/nodes/pve1/qemu/{vmid}")

    # Sending.

    def send(self, record: Mapping[str, Any]) -> Answer:
        request = record["request"]
        url, body = self._translated(request["url"]), request["body"]
        raw = (
            None
            if body is None
            else self._translated_body(body, request).encode(
                "latin-1" if "multipart" in str(request["content_type"]) else "utf-8"
            )
        )
        headers = self._headers(request["as"])
        if record["label"] == "invalid ticket cookie":
            headers["Cookie"] = "PVEAuthCookie=PVE:deploy@pve:00000000::bad"
        if request["content_type"]:
            headers["Content-Type"] = request["content_type"]
        with Client(self.lab, headers) as client:
            return client.send(request["method"], url, raw)

    def _translated(self, url: str) -> str:
        if "exec-status?pid=" in url:
            head, _, pid = url.partition("pid=")
            return f"{head}pid={self.pids.get(pid, pid)}"
        plain = unquote(url)
        for theirs, ours in self.upids.items():
            if theirs in plain:
                return plain.replace(theirs, quote(ours, safe=":"))
        return url.replace(" ", "%20")

    def _translated_body(self, body: str, request: Mapping[str, Any]) -> str:
        for theirs, ours in self.digests.items():
            body = body.replace(theirs, ours)
        if "password=PVE%3A" in body:
            return urlencode({"username": "deploy@pve", "password": self.ticket})
        if "multipart" in str(request["content_type"]) and not body.endswith("--\r\n"):
            return _completed(body)
        if "<70000 x>" in body:
            return body.replace("<70000 x>", "x" * 70000)
        return body

    def _headers(self, who: str) -> dict[str, str]:
        if who.startswith("token "):
            return {"Authorization": f"PVEAPIToken={who.split()[1]}=s"}
        if who == "expired token":
            return {"Authorization": "PVEAPIToken=deploy@pve!expired=s"}
        if who == "valid token + invalid cookie":
            return {
                "Authorization": "PVEAPIToken=deploy@pve!full=s",
                "Cookie": "PVEAuthCookie=PVE:deploy@pve:00000000::bad",
            }
        if who.startswith("ticket"):
            headers = {"Cookie": f"PVEAuthCookie={quote(self.ticket)}"}
            if "+ CSRF" in who:
                headers["CSRFPreventionToken"] = self.csrf
            if "bad CSRF" in who:
                headers["CSRFPreventionToken"] = "00000000:bad"
            return headers
        return {} if who == "none" else {"Authorization": who}

    # Learning.

    def learn(self, record: Mapping[str, Any], answer: Answer) -> None:
        if answer.status != 200 or "body_json" not in record:
            return
        theirs, ours = record["body_json"].get("data"), answer.json.get("data")
        if isinstance(theirs, str) and isinstance(ours, str) and theirs.startswith("UPID:"):
            self.upids[theirs] = ours
        if isinstance(theirs, dict) and isinstance(ours, dict):
            if "digest" in theirs and "digest" in ours:
                self.digests[theirs["digest"]] = ours["digest"]
            if theirs.get("username") == "deploy@pve":
                self.ticket, self.csrf = ours["ticket"], ours["CSRFPreventionToken"]
            if record["request"]["url"].endswith("/agent/exec"):
                self.pids[str(theirs["pid"])] = str(ours["pid"])


UPLOADS = {
    'filename="ck.iso"': 100,
    'filename="small.raw"': 1024**2,
    'filename="up.iso"': 5000,
    'filename="bad.qcow2"': 4096,
}


def _completed(body: str) -> str:
    """The recording keeps only the beginning of a long body."""
    head, _, data = body.rpartition("\r\n\r\n")
    size = next(size for name, size in UPLOADS.items() if name in head)
    size = 6000 if data.startswith("B") else size
    return f"{head}\r\n\r\n{(data[:1] or 'A') * size}\r\n------lab--\r\n"


def _run(argv: list[str], stdin: bytes) -> Mapping[str, Any]:
    """What the recorded guest did with each command."""
    if argv[0] == "/no/such" or " " in argv[0]:
        return {"missing": True}
    script = argv[2] if argv[:2] == ["/bin/sh", "-c"] else ""
    if script.startswith("echo out"):
        return {"exitcode": 3, "out": b"out\n", "err": b"err\n"}
    if script.startswith("kill"):
        return {"signal": 9}
    if script.startswith("printf"):
        return {"exitcode": 0, "out": b"\xff\x01x"}
    match argv[0]:
        case "/bin/uname":
            return {"exitcode": 0, "out": b"Linux\n", "polls": 1}
        case "/bin/cat":
            return {"exitcode": 0, "out": stdin, "polls": 1}
        case "/bin/sleep":
            return {"exitcode": 0, "polls": 1}
        case _:
            return {"exitcode": 0, "out": " ".join(argv[1:]).encode() + b"\n"}


# Comparing.


def differences(record: Mapping[str, Any], answer: Answer) -> list[str]:
    found = []
    if answer.status != record["status"]:
        found.append(f"status {answer.status} {answer.reason!r}, recorded {record['status']} {record['reason']!r}")
        return found
    if plain(answer.reason) != plain(record["reason"]):
        found.append(f"reason {answer.reason!r}, recorded {record['reason']!r}")
    if "body_json" in record:
        try:
            ours = answer.json
        except ValueError:
            return [*found, f"no JSON: {answer.body[:80]!r}"]
        found += compare(record["body_json"], ours, "")
    elif answer.body.decode() != record.get("body", ""):
        found.append(f"body {answer.body[:80]!r}, recorded {record.get('body')!r}")
    return found


def plain(text: str) -> str:
    """Without what differs between any two runs."""
    text = UPID.sub("UPID", text)
    text = re.sub(r"pveupload-[0-9a-f]{32}", "pveupload-X", text)
    text = re.sub(r"--\d{4}-\d\d-\d\d \d\d:\d\d:\d\d--", "--DATE--", text)
    text = re.sub(r"[0-9A-F]{2}(:[0-9A-F]{2}){5}", "MAC", text)
    return re.sub(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", "UUID", text)


def compare(theirs: Any, ours: Any, where: str) -> list[str]:
    key = where.rpartition(".")[2]
    if isinstance(theirs, dict) and isinstance(ours, dict):
        return _compare_dicts(theirs, ours, where)
    if isinstance(theirs, list) and isinstance(ours, list):
        return _compare_lists(theirs, ours, where)
    if _kind(theirs) != _kind(ours):
        return [f"{where}: {ours!r} is {_kind(ours)}, recorded {theirs!r}"]
    if key in VOLATILE:
        return []
    if key == "errors" or ".errors." in where:
        theirs, ours = sorted(str(theirs).split("\n")), sorted(str(ours).split("\n"))
    if isinstance(theirs, str):
        theirs, ours = _ordered(plain(theirs), key), _ordered(plain(str(ours)), key)
    return [] if theirs == ours else [f"{where}: {ours!r}, recorded {theirs!r}"]


def _ordered(text: str, key: str) -> str:
    return ",".join(sorted(text.split(","))) if key in ("content", "privs") else text


def _kind(value: Any) -> str:
    return "number" if isinstance(value, int | float) and not isinstance(value, bool) else type(value).__name__


def _compare_dicts(theirs: Mapping[str, Any], ours: Mapping[str, Any], where: str) -> list[str]:
    if where.endswith((".data./", "permissions")):
        return []
    found = [f"{where}: no {name!r} (recorded {theirs[name]!r})" for name in theirs if name not in ours]
    found += [f"{where}: {name!r} is too much" for name in ours if name not in theirs]
    for name in theirs:
        if name in ours:
            found += compare(theirs[name], ours[name], f"{where}.{name}")
    return found


IDENTITIES = (
    "vmid",
    "volid",
    "storage",
    "iface",
    "key",
    "name",
    "n",
    "upid",
    "node",
    "userid",
    "roleid",
    "realm",
    "tokenid",
    "subdir",
    "cmd",
    "poolid",
)


def _compare_lists(theirs: list[Any], ours: list[Any], where: str) -> list[str]:
    if not theirs or not isinstance(theirs[0], dict):
        return [] if (not theirs) == (not ours) else [f"{where}: {ours!r}, recorded {theirs!r}"]
    identity = next((name for name in IDENTITIES if all(name in item for item in theirs)), None)
    if identity in (None, "upid", "node") or "type" in theirs[0]:
        return [] if bool(theirs) == bool(ours) else [f"{where}: {len(ours)} items, recorded {len(theirs)}"]
    left, right = {str(item[identity]): item for item in theirs}, {str(item.get(identity)): item for item in ours}
    found = [f"{where}: no {name}" for name in left if name not in right] + [
        f"{where}: {name} is too much" for name in right if name not in left
    ]
    for name in left:
        if name in right:
            found += compare(left[name], right[name], f"{where}[{name}]")
    return found


def load(path: Path) -> list[dict[str, Any]]:
    records: list[dict[str, Any]] = json.loads(path.read_text())
    return records
