"""/access: logging in, users, tokens, roles, ACLs, and one's own permissions."""

from typing import Any

from nixops_proxmox.lab.call import Call, Routes, needs
from nixops_proxmox.lab.permissions import Entry, is_acl_path
from nixops_proxmox.lab.privileges import CAPABILITIES, privileges
from nixops_proxmox.lab.refusals import Refused, bad_parameter, die, login_failed
from nixops_proxmox.lab.schema.formats import split_list
from nixops_proxmox.lab.schema.types import boolean, named, text

routes = Routes()


@routes.get("/access")
async def index(_: Call) -> Any:
    return [
        {"subdir": name}
        for name in ("users", "groups", "roles", "acl", "domains", "openid", "tfa", "ticket", "password")
    ]


@routes.get("/access/domains", permission=None)
async def domains(call: Call) -> Any:
    realms = call.cluster.access.realms
    return [{"realm": name, "type": one.type, "comment": one.comment} for name, one in realms.items()]


LOGIN = {
    "username": text(64, optional=False),
    "password": text(optional=False),
    "realm": named("pve-realm"),
    "otp": text(),
    "tfa-challenge": text(),
    "path": text(64, requires="privs"),
    "privs": text(64, requires="path"),
    "new-format": boolean(),
}


@routes.get("/access/ticket", permission=None)
async def no_ticket(_: Call) -> Any:
    return None


@routes.post("/access/ticket", LOGIN, None)
async def ticket(call: Call) -> Any:
    if str(call.request.headers.get("Authorization", "")).startswith("PVEAPIToken"):
        raise Refused(
            403, "Permission check failed (URI '/access/ticket' not available with API token, need proper ticket.\n)"
        )
    access = call.cluster.access
    userid = call.params["username"]
    if call.get("realm") and "@" not in userid:
        userid = f"{userid}@{call.params['realm']}"
    challenge = call.get("tfa-challenge")
    if challenge is not None:
        if call.get("otp"):
            raise bad_parameter("otp", "otp and tfa-challenge cannot be used together")
        user = access.users.get(userid)
        if user is None or not access.is_challenge_of(challenge, userid):
            raise login_failed()
        access.prove_second_factor(user, call.params["password"])
    else:
        factors = access.login(userid, call.params["password"], call.get("otp"))
        if isinstance(factors, dict):
            return _half(call, userid, factors)
    return _session(call, userid)


def _half(call: Call, userid: str, factors: dict[str, bool]) -> dict[str, Any]:
    access = call.cluster.access
    return {
        "username": userid,
        "ticket": access.issue_challenge(userid, factors),
        "CSRFPreventionToken": access.issue_csrf(userid),
        "NeedTFA": 1,
    }


def _session(call: Call, userid: str) -> dict[str, Any]:
    access, cluster = call.cluster.access, call.cluster
    session: dict[str, Any] = {
        "username": userid,
        "ticket": access.issue_ticket(userid),
        "CSRFPreventionToken": access.issue_csrf(userid),
        "cap": _capabilities(call, userid),
    }
    if not cluster.standalone and access.permissions.allows(userid, "/", ["Sys.Audit"]):
        session["clustername"] = cluster.name
    return session


def _capabilities(call: Call, userid: str) -> dict[str, dict[str, int]]:
    """Area → privileges, from / and the areas' own paths."""
    permissions = call.cluster.access.permissions
    found: dict[str, dict[str, int]] = {
        area: {} for area in ("vms", "storage", "access", "nodes", "dc", "sdn", "mapping")
    }
    for path in ("/", "/access", "/access/groups", "/nodes", "/vms", "/storage", "/sdn", "/mapping"):
        for name in permissions.privileges(userid, path):
            for area, prefix in CAPABILITIES.items():
                if name.startswith(prefix) or name == "Permissions.Modify":
                    found[area][name] = 1
            if name in ("User.Modify", "Group.Allocate", "Permissions.Modify"):
                found["access"][name] = 1
            if name in ("Sys.Audit", "Sys.Modify", "SDN.Allocate", "SDN.Audit", "SDN.Use"):
                found["dc"][name] = 1
    return found


# Permissions.

TOP = ("/", "/access", "/access/groups", "/nodes", "/pool", "/sdn", "/storage", "/vms")


@routes.get("/access/permissions", {"path": text(), "userid": text()})
async def permissions(call: Call) -> Any:
    who = call.get("userid", call.auth.who)
    if who != call.auth.who and who.partition("!")[0] != call.auth.user:
        call.require("/access", "Sys.Audit")
    engine = call.cluster.access.permissions
    if "path" in call.params:
        paths = [call.params["path"]]
        if not is_acl_path(paths[0]):
            raise bad_parameter("path", f"invalid ACL path '{paths[0]}'")
    else:
        paths = sorted({*TOP, *(entry.path for entry in engine.entries)})
    found = {
        path: {name: int(propagates) for name, propagates in engine.privileges(who, path).items()} for path in paths
    }
    return {path: names for path, names in found.items() if names or "path" in call.params}


@routes.get("/access/roles")
async def roles(call: Call) -> Any:
    access = call.cluster.access
    return [
        {"roleid": name, "privs": ",".join(sorted(names)), "special": int(name in access.predefined)}
        for name, names in access.permissions.roles.items()
    ]


@routes.get("/access/roles/{roleid}")
async def role(call: Call) -> Any:
    found = call.cluster.access.permissions.roles.get(call.params["roleid"])
    if found is None:
        die(f"role '{call.params['roleid']}' does not exist")
    return {name: 1 for name in sorted(found)}


def _privileges(call: Call) -> frozenset[str]:
    names = split_list(call.get("privs", ""))
    for name in names:
        if name not in privileges(call.cluster.release):
            raise bad_parameter("privs", f"invalid format - invalid privilege '{name}'\n")
    return frozenset(names)


@routes.post(
    "/access/roles", {"roleid": named("pve-roleid", optional=False), "privs": text()}, needs("/access", "Sys.Modify")
)
async def create_role(call: Call) -> Any:
    engine, name = call.cluster.access.permissions, call.params["roleid"]
    if name in engine.roles:
        die(f"create role failed: role '{name}' already exists")
    engine.roles[name] = _privileges(call)


@routes.put("/access/roles/{roleid}", {"privs": text(), "append": boolean()}, needs("/access", "Sys.Modify"))
async def change_role(call: Call) -> Any:
    engine, name = call.cluster.access.permissions, call.params["roleid"]
    if name not in engine.roles:
        die(f"modify role failed: role '{name}' does not exist")
    if name in call.cluster.access.predefined:
        die(f"modify role failed: auto-generated role '{name}' cannot be modified")
    engine.roles[name] = _privileges(call) | (engine.roles[name] if call.get("append") else frozenset())


@routes.delete("/access/roles/{roleid}", permission=needs("/access", "Sys.Modify"))
async def delete_role(call: Call) -> Any:
    engine, name = call.cluster.access.permissions, call.params["roleid"]
    if name not in engine.roles:
        die(f"delete role failed: role '{name}' does not exist")
    if name in call.cluster.access.predefined:
        die(f"delete role failed: auto-generated role '{name}' cannot be deleted")
    del engine.roles[name]


@routes.get("/access/acl")
async def acl(call: Call) -> Any:
    every = call.allows("/access", "Sys.Audit") or call.allows("/", "Permissions.Modify")
    return [
        {
            "path": entry.path,
            "type": entry.kind,
            "ugid": entry.who,
            "roleid": entry.role,
            "propagate": int(entry.propagate),
        }
        for entry in call.cluster.access.permissions.entries
        if every or call.allows(entry.path, "Permissions.Modify")
    ]


ACL = {
    "path": text(optional=False),
    "roles": named("pve-roleid-list", optional=False),
    "users": named("string-list"),
    "groups": named("string-list"),
    "tokens": named("string-list"),
    "propagate": boolean(),
    "delete": boolean(),
}
OWN_AREA = {"vms": "VM.Allocate", "storage": "Datastore.Allocate", "pool": "Pool.Allocate"}


def may_modify_acl(call: Call) -> None:
    path = str(call.get("path", ""))
    area = path.strip("/").split("/")[0]
    if call.allows(path, "Permissions.Modify"):
        return
    if not (area in OWN_AREA and path.count("/") > 1 and call.allows(path, OWN_AREA[area])):
        call.require(path, "Permissions.Modify")


@routes.put("/access/acl", ACL, may_modify_acl)
async def change_acl(call: Call) -> Any:
    access, path = call.cluster.access, call.params["path"]
    if not is_acl_path(path):
        raise bad_parameter("path", f"invalid ACL path '{path}'")
    whos = [
        (kind, who)
        for kind, key in (("user", "users"), ("group", "groups"), ("token", "tokens"))
        for who in split_list(call.get(key, ""))
    ]
    if not whos:
        raise bad_parameter("users", "either 'users', 'groups' or 'tokens' is required.")
    for role_name in split_list(call.params["roles"]):
        if role_name not in access.permissions.roles:
            die(f"ACL update failed: role '{role_name}' does not exist")
        for kind, who in whos:
            _check_exists(call, kind, who)
            access.permissions.entries = [
                entry
                for entry in access.permissions.entries
                if (entry.path, entry.kind, entry.who, entry.role) != (path, kind, who, role_name)
            ]
            if not call.get("delete"):
                access.permissions.entries.append(Entry(path, kind, who, role_name, call.get("propagate", True)))


def _check_exists(call: Call, kind: str, who: str) -> None:
    access = call.cluster.access
    if kind == "user" and who not in access.users:
        die(f"ACL update failed: user '{who}' does not exist")
    if kind == "group" and who not in access.permissions.groups:
        die(f"ACL update failed: group '{who}' does not exist")
    if kind == "token":
        userid, _, name = who.partition("!")
        if userid not in access.users or name not in access.users[userid].tokens:
            die(f"ACL update failed: no such token '{name}' for user '{userid}'")
