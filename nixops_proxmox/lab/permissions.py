"""Who may do what: ACL paths, inheritance, pools and tokens, as pve-access-control evaluates them."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

ROOT = "root@pam"
NO_ACCESS = "NoAccess"


@dataclass(frozen=True)
class Entry:
    """One line of the ACL: who (user, token or @group) has which role on a path, and whether it goes below."""

    path: str
    kind: str  # user, group, token
    who: str
    role: str
    propagate: bool = True


@dataclass
class Permissions:
    """`pool_of` tells the pool of "/vms/101" or "/storage/x"; pools' ACLs count for their members."""

    roles: dict[str, frozenset[str]]
    entries: list[Entry] = field(default_factory=list)
    groups: dict[str, set[str]] = field(default_factory=dict)
    separated: Callable[[str], bool] = lambda _token: True  # does this token have rights of its own only?
    pool_of: Callable[[str], str | None] = lambda _path: None

    def privileges(self, who: str, path: str) -> Mapping[str, bool]:
        """Privilege → does it propagate. A token has at most what its owner has."""
        user, bang, _ = who.partition("!")
        if not bang:
            return self._of_one(user, "user", path)
        owner = self._of_one(user, "user", path)
        if not self.separated(who):
            return owner
        own = self._of_one(who, "token", path)
        return {name: own[name] and owner[name] for name in own if name in owner}

    def _of_one(self, who: str, kind: str, path: str) -> Mapping[str, bool]:
        if who == ROOT:
            return {name: True for names in self.roles.values() for name in names}
        roles = self._roles(who, kind, path)
        pool = self.pool_of(path)
        if pool is not None and NO_ACCESS not in roles:
            # A pool's roles are added to its members, and never go below them.
            for role in self._roles(who, kind, f"/pool/{pool}"):
                roles.setdefault(role, False)
        found: dict[str, bool] = {}
        for role, propagate in roles.items():
            if role == NO_ACCESS:
                return {}
            for name in self.roles.get(role, frozenset()):
                found[name] = found.get(name, False) or propagate
        return found

    def _roles(self, who: str, kind: str, path: str) -> dict[str, bool]:
        """Walk from / to the path: the deepest entry wins, a user's own over its groups'."""
        roles: dict[str, bool] = {}
        for level in levels(path):
            last = level == path
            here = [entry for entry in self.entries if entry.path == level and (last or entry.propagate)]
            direct = {entry.role: entry.propagate for entry in here if entry.kind == kind and entry.who == who}
            if not direct and kind == "user":
                direct = {
                    entry.role: entry.propagate
                    for entry in here
                    if entry.kind == "group" and who in self.groups.get(entry.who, ())
                }
            roles = direct or roles
        return roles

    def allows(self, who: str, path: str, names: Iterable[str], *, any_of: bool = False) -> bool:
        have = self.privileges(who, path)
        return any(name in have for name in names) if any_of else all(name in have for name in names)


def levels(path: str) -> list[str]:
    """/vms/101 → /, /vms, /vms/101"""
    parts = [part for part in path.split("/") if part]
    return ["/", *("/" + "/".join(parts[: index + 1]) for index in range(len(parts)))]


def is_acl_path(path: str) -> bool:
    top = path.strip("/").split("/")[0]
    return path == "/" or (
        path.startswith("/") and top in {"access", "mapping", "nodes", "pool", "sdn", "storage", "vms"}
    )
