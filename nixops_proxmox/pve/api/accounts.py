"""The calls of accounts: users, tokens, roles and who may do what. An administrator makes them; deploys make none."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from nixops_proxmox.pve.api import answers


class AccountCalls:
    """One method for each call. `ask`: the client's."""

    def __init__(self, ask: Callable[..., Any]) -> None:
        self._ask = ask

    def has_user(self, user: str) -> bool:
        found = answers.as_maps(self._ask("GET", "/access/users"), "users")
        return user in [answers.as_text(one.get("userid"), "user") for one in found]

    def add_user(self, user: str, comment: str) -> None:
        self._ask("POST", "/access/users", {"userid": user, "comment": comment})

    def list_tokens(self, user: str) -> Mapping[str, str]:
        """Their comments, by name."""
        found = answers.as_maps(self._ask("GET", "/access/users/{user}/token", user=user), "tokens")
        return {answers.as_text(one.get("tokenid"), "token"): str(one.get("comment", "")) for one in found}

    def add_token(self, user: str, token: str, comment: str) -> str:
        """With rights of its own (privilege separation). Returns its secret, which PVE never tells again."""
        params = {"comment": comment, "privsep": 1}
        data = answers.as_map(
            self._ask("POST", "/access/users/{user}/token/{token}", params, user=user, token=token), "token"
        )
        return answers.as_text(data.get("value"), "token's secret")

    def remove_token(self, user: str, token: str) -> None:
        self._ask("DELETE", "/access/users/{user}/token/{token}", user=user, token=token)

    def list_roles(self) -> Mapping[str, frozenset[str]]:
        """The privileges of each role."""
        found = answers.as_maps(self._ask("GET", "/access/roles"), "roles")
        return {
            answers.as_text(one.get("roleid"), "role"): frozenset(str(one.get("privs", "")).replace(",", " ").split())
            for one in found
        }

    def add_role(self, role: str, privileges: Iterable[str]) -> None:
        self._ask("POST", "/access/roles", {"roleid": role, "privs": " ".join(privileges)})

    def extend_role(self, role: str, privileges: Iterable[str]) -> None:
        """Takes nothing away from it."""
        self._ask("PUT", "/access/roles/{role}", {"privs": " ".join(privileges), "append": 1}, role=role)

    def grant(self, path: str, roles: Iterable[str], who: str) -> None:
        """To the user, and to the token if `who` names one: a token has what both have."""
        params = {"path": path, "roles": ",".join(roles), "users": who.partition("!")[0]}
        self._ask("PUT", "/access/acl", params | ({"tokens": who} if "!" in who else {}))

    def permissions_of(self, who: str) -> Mapping[str, Mapping[str, bool]]:
        """{path: {privilege: propagates}}"""
        return answers.parse_permissions(self._ask("GET", "/access/permissions", {"userid": who}))
