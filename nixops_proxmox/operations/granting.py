"""What the profile's account lacks, made by an administrator: user, token, roles and grants. Only by word."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from nixops_proxmox.errors import ConfigError, StateError
from nixops_proxmox.operations.doctor import Wanted
from nixops_proxmox.pve.api.client import PveClient
from nixops_proxmox.pve.cluster.doctor import find_needs
from nixops_proxmox.pve.cluster.permissions import Grants, commands_of, find_grants, missing
from nixops_proxmox.secrecy import learn

MADE = "made by nixops-proxmox"  # the comment of users and tokens that we made
AUDITOR, AUDITS = "PVEAuditor", ("VM.Audit", "Datastore.Audit", "Sys.Audit")  # PVE has this role
ITS_OWN = "pve"  # the realm whose users PVE keeps itself


@dataclass(frozen=True)
class Lacks:
    """`again`: the token is there, made by us, and its secret is lost; a new one takes its place."""

    who: str
    grants: Grants
    user: bool = False
    token: bool = False
    again: bool = False

    def __bool__(self) -> bool:
        return bool(self.user or self.token or self.grants.roles or self.grants.acl)

    def told(self) -> Iterator[str]:
        """What will be done, a line each."""
        if self.user:
            yield f"make the user {self.who.partition('!')[0]}"
        if self.token:
            instead = ", in place of the one whose secret is lost" if self.again else ""
            yield f"make the token {self.who}{instead}"
        for role, privileges in self.grants.roles.items():
            yield f"role {role}: {' '.join(privileges)}"
        for path, roles in self.grants.acl.items():
            yield f"grant {', '.join(roles)} on {path} to {self.who}"

    def commands(self) -> Iterator[str]:
        """The same for a root shell on a node, where an administrator does it by hand."""
        user, _, token = self.who.partition("!")
        if self.user:
            yield f"pveum user add {user} --comment '{MADE}'"
        if self.again:
            yield f"pveum user token remove {user} {token}"
        if self.token:
            yield f"pveum user token add {user} {token} --privsep 1 --comment '{MADE}'"
        yield from commands_of(self.grants, self.who)


class Granter:
    """An administrator at work on one hypervisor. Each of its acts looks first, so it may be repeated."""

    def __init__(self, client: PveClient) -> None:
        """`client`: the administrator's."""
        self._client, self._accounts = client, client.accounts

    def find_lacks(self, who: str, wanted: Wanted, *, lacks_secret: bool) -> Lacks:
        """`who`: user@realm or user@realm!token. `lacks_secret`: the profile has none, so only a new token helps."""
        user, _, token = who.partition("!")
        there = self._accounts.has_user(user)
        if not there and not user.endswith(f"@{ITS_OWN}"):
            raise ConfigError(
                f"PVE does not know the user {user}, and only users of the realm {ITS_OWN} are made here",
                hint="add it in PVE (Datacenter, Permissions, Users), or synchronise its realm",
            )
        if not there and not token:
            raise ConfigError(
                f"PVE does not know the user {user}, and a user who logs in by password is not made here",
                hint='let the profile name a token: `token_id = "nixops@pve!deploy"`, without a secret',
            )
        tokens = self._accounts.list_tokens(user) if there and token else {}
        lost = token in tokens and lacks_secret
        if lost and tokens[token] != MADE:
            raise StateError(
                f"the token {who} is there, and the profile does not have its secret: PVE tells it only once",
                hint="add `token_secret` to the profile, or choose another name for the token",
            )
        new = bool(token) and (token not in tokens or lost)
        if new and not lacks_secret:
            raise ConfigError(
                f"PVE does not know the token {who}, and the profile has a secret for it",
                hint=f'let the profile have `token_id = "{who}"` and no secret: a new one is put there',
            )
        granted = {} if not there or (token and token not in tokens) else self._accounts.permissions_of(who)
        release = self._client.get_version()
        needs = find_needs(self._client, wanted.machines, wanted.rights, release, granted)
        lacking = missing(needs, {} if lost else granted)
        return Lacks(who, find_grants(lacking, release, granted), not there, new, lost)

    def find_lacks_to_look(self, who: str, *, lacks_secret: bool) -> Lacks:
        """What an account that only looks lacks: PVE's own role for it, on everything."""
        lacks = self.find_lacks(who, Wanted(), lacks_secret=lacks_secret)
        granted = {} if lacks.user or lacks.token else self._accounts.permissions_of(who)
        sees = all(granted.get("/", {}).get(name) for name in AUDITS)
        return lacks if sees else replace(lacks, grants=Grants({}, {"/": (AUDITOR,)}))

    def supply(self, lacks: Lacks, keep: Callable[[str], None]) -> None:
        """Make it so. `keep` gets the secret of a new token at once: PVE never tells it again. A run that ends before
        that leaves a token of ours, which the next one replaces."""
        user, _, token = lacks.who.partition("!")
        if lacks.user:
            self._accounts.add_user(user, MADE)
        if lacks.token:
            keep(self._make_token(user, token, again=lacks.again))
        there = self._accounts.list_roles()
        for role, privileges in lacks.grants.roles.items():
            if role not in there:
                self._accounts.add_role(role, privileges)
            elif not there[role] >= {*privileges}:
                self._accounts.extend_role(role, privileges)
        for path, roles in lacks.grants.acl.items():
            self._accounts.grant(path, roles, lacks.who)

    def _make_token(self, user: str, token: str, *, again: bool) -> str:
        if again:
            self._accounts.remove_token(user, token)  # with its grants, which are made again
        secret = self._accounts.add_token(user, token, MADE)
        learn(secret)
        return secret
