"""An account with few rights, and somebody who types at a node's root shell what the doctor tells him to."""

import shlex
from collections.abc import Mapping, Sequence

from nixops_proxmox.model import Finding
from nixops_proxmox.pve.cluster.doctor import examine
from nixops_proxmox.pve.cluster.hypervisor import PveHypervisor
from nixops_proxmox.pve.wire.profiles import parse_profile
from nixops_proxmox.spec import MachineSpec
from tests.contract.client_bench import Bench

PASSWORD = "password-1"


class Clerk:
    """`roles`: the privileges that the account has, by path."""

    def __init__(self, bench: Bench, roles: Mapping[str, Sequence[str]], name: str = "clerk@pve") -> None:
        self._root = bench.another(username="root@pam", password=bench.lab.root_password).client
        self._root._ask("POST", "/access/users", {"userid": name, "password": PASSWORD})
        for number, (path, privileges) in enumerate(roles.items()):
            self.type(f"pveum role add {name[:-4]}-{number} --privs '{' '.join(privileges)}'")
            self.type(f"pveum acl modify {path} --roles {name[:-4]}-{number} --users '{name}'")
        self._profile = parse_profile("x", {"endpoint": bench.lab.url, "username": name, "password": PASSWORD})
        self.hypervisor: PveHypervisor = bench.another(username=name, password=PASSWORD)
        self.commands = ""

    def examine(self, *specs: MachineSpec) -> list[Finding]:
        findings = examine(self.hypervisor.client, self._profile, specs)
        self.commands = "\n".join(finding.hint for finding in findings if "pveum acl" in finding.hint)
        return findings

    def follow(self) -> None:
        """Type every command of the last examination."""
        for line in self.commands.splitlines():
            for command in line.replace("2>/dev/null", "").split(";"):
                self.type(command)

    def type(self, command: str) -> None:
        program, subject, verb, name, *rest = shlex.split(command)
        assert program == "pveum"
        options = dict(zip(rest[::2], rest[1::2], strict=True))
        match subject, verb:
            case "role", "add":
                if not any(role["roleid"] == name for role in self._root._ask("GET", "/access/roles")):
                    self._root._ask("POST", "/access/roles", {"roleid": name, "privs": options.get("--privs")})
            case "role", "modify":
                self._root._ask("PUT", "/access/roles/{roleid}", {"privs": options["--privs"]}, roleid=name)
            case "acl", "modify":
                params = {key.removeprefix("--"): value for key, value in options.items()}
                self._root._ask("PUT", "/access/acl", {"path": name, **params})
            case _:
                raise AssertionError(f"not a command of pveum's that is known here: {command}")
