"""/access/users: who there is, and their API tokens."""

import re
from typing import Any

from nixops_proxmox.lab.access import User
from nixops_proxmox.lab.call import Call, Routes, needs
from nixops_proxmox.lab.refusals import bad_parameter, die, no_permission
from nixops_proxmox.lab.schema.formats import split_list
from nixops_proxmox.lab.schema.types import boolean, integer, named, text

routes = Routes()
USERID = re.compile(r"^[^\s:/]+@[A-Za-z][A-Za-z0-9.\-_]+$")


MODIFY_USERS = needs("/access/groups", "User.Modify")
USER = {
    "comment": text(2048),
    "email": text(254),
    "enable": boolean(),
    "expire": integer(0),
    "firstname": text(1024),
    "groups": named("string-list"),
    "keys": text(),
    "lastname": text(1024),
}


def _user(call: Call) -> User:
    user = call.cluster.access.users.get(call.params["userid"])
    if user is None:
        die(f"no such user ('{call.params['userid']}')")
    return user


PERSONAL = ("comment", "email", "firstname", "keys", "lastname")  # texts that PVE keeps and shows when they are set


def _shown(user: User) -> dict[str, Any]:
    found: dict[str, Any] = {"enable": int(user.enabled), "expire": user.expire}
    return found | {name: getattr(user, name) for name in PERSONAL if getattr(user, name)}


def _groups(call: Call, user: User) -> list[str]:
    return sorted(name for name, members in call.cluster.access.permissions.groups.items() if user.userid in members)


def _full(call: Call, user: User) -> dict[str, Any]:
    """What only `full` lists show."""
    if not call.get("full"):
        return {}
    tokens = [{"tokenid": token.name, **_token(token)} for token in user.tokens.values()]
    return {"groups": ",".join(_groups(call, user)), "tokens": tokens}


@routes.get("/access/users", {"enabled": boolean(), "full": boolean()})
async def users(call: Call) -> Any:
    every = call.allows("/access/groups", "User.Modify") or call.allows("/access/groups", "Sys.Audit")
    return [
        {"userid": user.userid, "realm-type": user.userid.rpartition("@")[2], **_shown(user), **_full(call, user)}
        for user in call.cluster.access.users.values()
        if (every or (user.userid == call.auth.user and not call.auth.token))
        and call.get("enabled", user.enabled) == user.enabled
    ]


@routes.post(
    "/access/users", {**USER, "userid": text(optional=False), "password": text(64, min_length=8)}, MODIFY_USERS
)
async def create_user(call: Call) -> Any:
    userid, access = call.params["userid"], call.cluster.access
    if not USERID.match(userid):
        die(f"value '{userid}' does not look like a valid user name")
    if userid in access.users:
        die(f"create user failed: user '{userid}' already exists")
    user = access.users[userid] = User(userid, call.get("password", ""))
    _take(call, user)


def _take(call: Call, user: User) -> None:
    """What a call says of a user; what it leaves out stays. Groups that do not exist are passed over, as in PVE."""
    user.enabled = call.get("enable", user.enabled)
    user.expire = call.get("expire", user.expire)
    for name in PERSONAL:
        setattr(user, name, call.get(name, getattr(user, name)))
    if "groups" in call.params:
        groups = call.cluster.access.permissions.groups
        for members in () if call.get("append") else groups.values():
            members.discard(user.userid)
        for group in split_list(call.params["groups"]):
            if group in groups:
                groups[group].add(user.userid)


@routes.get("/access/users/{userid}", permission=needs("/access/groups", "User.Modify", "Sys.Audit", any_of=True))
async def read_user(call: Call) -> Any:
    user = _user(call)
    return {
        **_shown(user),
        "groups": _groups(call, user),
        "tokens": {name: _token(token) for name, token in user.tokens.items()},
    }


@routes.put("/access/users/{userid}", {**USER, "append": boolean()}, MODIFY_USERS)
async def change_user(call: Call) -> Any:
    _take(call, _user(call))


@routes.delete("/access/users/{userid}", permission=MODIFY_USERS)
async def delete_user(call: Call) -> Any:
    user, access = _user(call), call.cluster.access
    del access.users[user.userid]
    for members in access.permissions.groups.values():
        members.discard(user.userid)
    access.permissions.entries = [
        entry for entry in access.permissions.entries if entry.who.partition("!")[0] != user.userid
    ]


@routes.put(
    "/access/password",
    {
        "userid": text(64, optional=False),
        "password": text(64, min_length=8, optional=False),
        "confirmation-password": text(since=(8, 0)),
    },
    allow_token=False,
)
async def set_password(call: Call) -> Any:
    user = _user(call)
    if user.userid != call.auth.user:
        call.require("/access/groups", "User.Modify")
    user.password = call.params["password"]


def may_see_tokens(call: Call) -> None:
    if call.auth.user != call.params["userid"] and not call.allows("/access/groups", "User.Modify"):
        raise no_permission()


def _token(token: Any) -> dict[str, Any]:
    return {
        "privsep": int(token.privsep),
        "expire": token.expire,
        **({"comment": token.comment} if token.comment else {}),
    }


@routes.get("/access/users/{userid}/token", permission=may_see_tokens)
async def tokens(call: Call) -> Any:
    return [{"tokenid": token.name, **_token(token)} for token in _user(call).tokens.values()]


@routes.get("/access/users/{userid}/token/{tokenid}", permission=may_see_tokens)
async def token(call: Call) -> Any:
    return _token(_get_token(call))


def _get_token(call: Call) -> Any:
    user, name = _user(call), call.params["tokenid"]
    if name not in user.tokens:
        die(f"no such token '{name}' for user '{user.userid}'")
    return user.tokens[name]


TOKEN = {"comment": text(), "expire": integer(0), "privsep": boolean()}


@routes.post("/access/users/{userid}/token/{tokenid}", TOKEN, may_see_tokens)
async def create_token(call: Call) -> Any:
    user, name = _user(call), call.params["tokenid"]
    if name in user.tokens:
        raise bad_parameter("tokenid", "Token already exists.")
    secret = call.cluster.access.add_token(
        user.userid,
        name,
        privsep=call.get("privsep", True),
        expire=call.get("expire", 0),
        comment=call.get("comment", ""),
    )
    return {
        "full-tokenid": f"{user.userid}!{name}",
        "value": secret,
        "info": {"privsep": int(user.tokens[name].privsep)},
    }


@routes.put("/access/users/{userid}/token/{tokenid}", TOKEN, may_see_tokens)
async def change_token(call: Call) -> Any:
    found = _get_token(call)
    found.privsep = call.get("privsep", found.privsep)
    found.expire = call.get("expire", found.expire)
    found.comment = call.get("comment", found.comment)
    return _token(found)


@routes.delete("/access/users/{userid}/token/{tokenid}", permission=may_see_tokens)
async def delete_token(call: Call) -> Any:
    found = _get_token(call)
    user = _user(call)
    del user.tokens[found.name]
    engine = call.cluster.access.permissions
    engine.entries = [entry for entry in engine.entries if entry.who != f"{user.userid}!{found.name}"]
