"""The calls of the firewall: of the cluster, of a security group, of a VM."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nixops_proxmox.pve.api import answers

CLUSTER, VM = "/cluster/firewall", "/nodes/{node}/qemu/{vmid}/firewall"
CONTAINER = "/nodes/{node}/lxc/{vmid}/firewall"
GROUPS = f"{CLUSTER}/groups"
Entries = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Where:
    """A firewall's path: `base` with its placeholders filled from `values`. `rules`: where its rules are."""

    base: str
    rules: str
    values: Mapping[str, str | int]


def of_cluster() -> Where:
    return Where(CLUSTER, f"{CLUSTER}/rules", {})


def of_group(group: str) -> Where:
    return Where(CLUSTER, f"{GROUPS}/{{group}}", {"group": group})


def of_vm(node: str, vmid: int) -> Where:
    return Where(VM, f"{VM}/rules", {"node": node, "vmid": vmid})


def of_container(node: str, vmid: int) -> Where:
    return Where(CONTAINER, f"{CONTAINER}/rules", {"node": node, "vmid": vmid})


class FirewallCalls:
    """One method for each call. `ask`: the client's."""

    def __init__(self, ask: Callable[..., Any]) -> None:
        self._ask = ask

    def _list(self, template: str, what: str, values: Mapping[str, str | int]) -> Entries:
        return list(answers.as_maps(self._ask("GET", template, **values), what))

    def get_options(self, where: Where) -> Mapping[str, Any]:
        return answers.as_map(self._ask("GET", f"{where.base}/options", **where.values), "options")

    def set_options(self, where: Where, values: Mapping[str, str]) -> None:
        self._ask("PUT", f"{where.base}/options", values, **where.values)

    def list_rules(self, where: Where) -> Entries:
        return self._list(where.rules, "rules", where.values)

    def add_rule(self, where: Where, rule: Mapping[str, str]) -> None:
        """In front of all others, whatever `pos` says."""
        self._ask("POST", where.rules, rule, **where.values)

    def change_rule(self, where: Where, place: int, values: Mapping[str, str]) -> None:
        self._ask("PUT", f"{where.rules}/{{pos}}", values, **where.values, pos=place)

    def delete_rule(self, where: Where, place: int, digest: str) -> None:
        self._ask("DELETE", f"{where.rules}/{{pos}}", _digest(digest), **where.values, pos=place)

    def list_groups(self) -> Entries:
        return self._list(GROUPS, "groups", {})

    def put_group(self, values: Mapping[str, str]) -> None:
        """A new one; with `rename`, one that is there."""
        self._ask("POST", GROUPS, values)

    def delete_group(self, group: str) -> None:
        self._ask("DELETE", f"{GROUPS}/{{group}}", group=group)

    def list_sets(self, where: Where) -> Entries:
        return self._list(f"{where.base}/ipset", "IP sets", where.values)

    def put_set(self, where: Where, values: Mapping[str, str]) -> None:
        """A new one; with `rename`, one that is there."""
        self._ask("POST", f"{where.base}/ipset", values, **where.values)

    def delete_set(self, where: Where, name: str) -> None:
        self._ask("DELETE", f"{where.base}/ipset/{{name}}", **where.values, name=name)

    def list_members(self, where: Where, name: str) -> Entries:
        return self._list(f"{where.base}/ipset/{{name}}", "members", {**where.values, "name": name})

    def add_member(self, where: Where, name: str, values: Mapping[str, str]) -> None:
        self._ask("POST", f"{where.base}/ipset/{{name}}", values, **where.values, name=name)

    def change_member(self, where: Where, name: str, cidr: str, values: Mapping[str, str]) -> None:
        self._ask("PUT", f"{where.base}/ipset/{{name}}/{{cidr}}", values, **where.values, name=name, cidr=cidr)

    def delete_member(self, where: Where, name: str, cidr: str, digest: str) -> None:
        template = f"{where.base}/ipset/{{name}}/{{cidr}}"
        self._ask("DELETE", template, _digest(digest), **where.values, name=name, cidr=cidr)

    def list_aliases(self) -> Entries:
        return self._list(f"{CLUSTER}/aliases", "aliases", {})

    def add_alias(self, values: Mapping[str, str]) -> None:
        self._ask("POST", f"{CLUSTER}/aliases", values)

    def change_alias(self, name: str, values: Mapping[str, str]) -> None:
        self._ask("PUT", f"{CLUSTER}/aliases/{{name}}", values, name=name)

    def delete_alias(self, name: str, digest: str) -> None:
        self._ask("DELETE", f"{CLUSTER}/aliases/{{name}}", _digest(digest), name=name)


def _digest(digest: str) -> dict[str, str]:
    return {"digest": digest} if digest else {}
