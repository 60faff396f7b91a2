"""The firewall's configuration on a cluster. Satisfies `kinds.firewall.ports.FirewallStore`."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

from nixops_proxmox.errors import NotFound, PermissionDenied, PveRefused
from nixops_proxmox.model import Facts, Vm
from nixops_proxmox.pve.api.client import PveClient
from nixops_proxmox.pve.api.firewall import Where, of_cluster, of_container, of_group, of_vm
from nixops_proxmox.pve.cluster.view import ClusterView


class FirewallStore:
    def __init__(
        self,
        client: PveClient,
        view: ClusterView,
        find: Callable[[Facts], Vm | None],
        inside: Callable[[Facts], Vm | None],
    ) -> None:
        """`find`: our VM. `inside`: our container."""
        self._calls, self._view, self._find, self._inside = client.firewall, view, find, inside

    def find_vm(self, facts: Facts, /) -> Where | None:
        vm = (self._inside if facts.container else self._find)(facts)
        if vm is None:
            return None
        return (of_container if facts.container else of_vm)(vm.node, vm.vmid)

    def options(self, spot: Where, /) -> Mapping[str, Any]:
        return self._calls.get_options(spot)

    def set_options(self, spot: Where, values: Mapping[str, str], gone: Sequence[str], digest: str, /) -> None:
        self._calls.set_options(spot, {**values, **_gone(gone), **_digest(digest)})

    # Rules.

    def rules(self, spot: Where, /) -> Sequence[Mapping[str, Any]]:
        return self._calls.list_rules(spot)

    def add_rule(self, spot: Where, rule: Mapping[str, str], /) -> None:
        self._calls.add_rule(spot, rule)

    def change_rule(
        self, spot: Where, place: int, values: Mapping[str, str], gone: Sequence[str], digest: str, /
    ) -> None:
        self._calls.change_rule(spot, place, {**values, **_gone(gone), **_digest(digest)})

    def move_rule(self, spot: Where, place: int, before: int, digest: str, /) -> None:
        self._calls.change_rule(spot, place, {"moveto": str(before), **_digest(digest)})

    def delete_rule(self, spot: Where, place: int, digest: str, /) -> None:
        self._calls.delete_rule(spot, place, digest)

    # Groups.

    def groups(self) -> Mapping[str, str]:
        return {str(one["group"]): str(one.get("comment", "")) for one in self._calls.list_groups()}

    def add_group(self, name: str, comment: str, /) -> None:
        self._calls.put_group({"group": name, "comment": comment})

    def set_group_comment(self, name: str, comment: str, /) -> None:
        self._calls.put_group({"group": name, "rename": name, "comment": comment})

    def delete_group(self, name: str, /) -> None:
        if name in self.groups():
            self._calls.delete_group(name)

    # IP sets.

    def sets(self, spot: Where, /) -> Mapping[str, str]:
        return {str(one["name"]): str(one.get("comment", "")) for one in self._calls.list_sets(spot)}

    def members(self, spot: Where, name: str, /) -> Sequence[Mapping[str, Any]]:
        return self._calls.list_members(spot, name)

    def add_set(self, spot: Where, name: str, comment: str, /) -> None:
        self._calls.put_set(spot, {"name": name, "comment": comment})

    def set_set_comment(self, spot: Where, name: str, comment: str, /) -> None:
        self._calls.put_set(spot, {"name": name, "rename": name, "comment": comment})

    def delete_set(self, spot: Where, name: str, /) -> None:
        if name in self.sets(spot):
            self._calls.delete_set(spot, name)

    def add_member(self, spot: Where, name: str, member: Mapping[str, str], /) -> None:
        self._calls.add_member(spot, name, member)

    def change_member(self, spot: Where, name: str, member: Mapping[str, str], digest: str, /) -> None:
        values = {key: value for key, value in member.items() if key != "cidr"}
        self._calls.change_member(spot, name, member["cidr"], {**values, **_digest(digest)})

    def delete_member(self, spot: Where, name: str, cidr: str, digest: str, /) -> None:
        self._calls.delete_member(spot, name, cidr, digest)

    # Aliases.

    def aliases(self) -> Mapping[str, Mapping[str, Any]]:
        return {str(one["name"]).lower(): one for one in self._calls.list_aliases()}

    def add_alias(self, alias: Mapping[str, str], /) -> None:
        self._calls.add_alias(alias)

    def change_alias(self, alias: Mapping[str, str], digest: str, /) -> None:
        values = {key: value for key, value in alias.items() if key != "name"}
        self._calls.change_alias(alias["name"], {**values, **_digest(digest)})

    def delete_alias(self, name: str, digest: str, /) -> None:
        self._calls.delete_alias(name, digest)

    # Who names it.

    def users_of(self, word: str, /) -> Sequence[str]:
        """PVE does not look by itself. VMs that we may not see are not looked at."""
        return list(dict.fromkeys(self._users_of(word)))

    def _users_of(self, word: str) -> Iterator[str]:
        yield from _naming(word, "the cluster's rules", self._calls.list_rules(of_cluster()))
        for group in self.groups():
            yield from _naming(word, f"the security group {group}", self._calls.list_rules(of_group(group)))
        for guest in self._view.get(0.0).guests.values():
            with suppress(PermissionDenied, NotFound, PveRefused):
                rules = self._calls.list_rules(of_vm(guest.node, guest.vmid))
                yield from _naming(word, f"VM {guest.vmid}", rules)


def _naming(word: str, who: str, rules: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    kind, _, group = word.partition(" ")
    bare = word.removeprefix("+").lower()
    plus = "+" if word.startswith("+") else ""
    names = {f"{plus}{scope}{bare}" for scope in ("", "dc/")}
    for rule in rules:
        if kind == "group" and group:
            if rule.get("type") == "group" and rule.get("action") == group:
                yield who
        elif {str(rule.get(end, "")).lower() for end in ("source", "dest")} & names:
            yield who


def _gone(names: Sequence[str]) -> dict[str, str]:
    return {"delete": ",".join(names)} if names else {}


def _digest(digest: str) -> dict[str, str]:
    return {"digest": digest} if digest else {}
