"""/access/groups: users that ACLs name together."""

from typing import Any

from nixops_proxmox.lab.call import Call, Routes, needs
from nixops_proxmox.lab.refusals import die
from nixops_proxmox.lab.schema.types import matching, text

routes = Routes()
ALLOCATE = needs("/access/groups", "Group.Allocate")
GROUP = matching(r"[A-Za-z0-9.\-_]+", optional=False)


def _members(call: Call, failed: str = "") -> set[str]:
    name = call.params["groupid"]
    found = call.cluster.access.permissions.groups.get(name)
    return found if found is not None else die(f"{failed}group '{name}' does not exist")


def _comment(call: Call, name: str) -> dict[str, str]:
    comments = call.cluster.access.group_comments
    return {"comment": comments[name]} if name in comments else {}


@routes.get("/access/groups")
async def groups(call: Call) -> Any:
    every = call.allows("/access/groups", "Group.Allocate", "Sys.Audit", any_of=True)
    return [
        {"groupid": name, "users": ",".join(sorted(members)), **_comment(call, name)}
        for name, members in sorted(call.cluster.access.permissions.groups.items())
        if every or call.allows(f"/access/groups/{name}", "User.Modify", "Sys.Audit", "Group.Allocate", any_of=True)
    ]


@routes.post("/access/groups", {"groupid": GROUP, "comment": text()}, ALLOCATE)
async def create_group(call: Call) -> Any:
    access, name = call.cluster.access, call.params["groupid"]
    if name in access.permissions.groups:
        die(f"create group failed: group '{name}' already exists")
    access.permissions.groups[name] = set()
    if call.get("comment"):
        access.group_comments[name] = call.params["comment"]


@routes.get("/access/groups/{groupid}", permission=needs("/access/groups", "Sys.Audit", "Group.Allocate", any_of=True))
async def group(call: Call) -> Any:
    return {"members": sorted(_members(call)), **_comment(call, call.params["groupid"])}


@routes.put("/access/groups/{groupid}", {"comment": text()}, ALLOCATE)
async def change_group(call: Call) -> Any:
    _members(call, "update group failed: ")
    if "comment" in call.params:
        call.cluster.access.group_comments[call.params["groupid"]] = call.params["comment"]


@routes.delete("/access/groups/{groupid}", permission=ALLOCATE)
async def delete_group(call: Call) -> Any:
    _members(call, "delete group failed: ")
    access, name = call.cluster.access, call.params["groupid"]
    del access.permissions.groups[name]
    access.group_comments.pop(name, None)
    access.permissions.entries = [
        entry for entry in access.permissions.entries if (entry.kind, entry.who) != ("group", name)
    ]
