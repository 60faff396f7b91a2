"""/…/firewall/aliases and /…/firewall/ipset: names that rules use for addresses."""

from typing import Any

from nixops_proxmox.lab.call import Call, Routes
from nixops_proxmox.lab.firewall import Item, check_digest, digest_of, find_alias, with_digest
from nixops_proxmox.lab.refusals import bad_parameter, die
from nixops_proxmox.lab.routes.firewall_levels import CLUSTER, CONTAINER, DIGEST, NAMED, VM, Level
from nixops_proxmox.lab.schema.firewall import SCOPED_ALIAS, clean_cidr
from nixops_proxmox.lab.schema.types import boolean, named, text

routes = Routes()


def put_named(
    call: Call, key: str, what: str, entries: dict[str, list[Item]], comments: dict[str, str], listed: list[Item]
) -> None:
    """Add the entry that the parameter `key` names. With `rename`: another name or comment for one that is there.
    `listed`: what its digest is of."""
    name, rename = call.params[key], call.get("rename")
    if rename:
        check_digest(call.get("digest"), listed)
        if rename not in entries:
            raise bad_parameter(key, f"{what} '{rename}' does not exist")
        if name in entries and name != rename:
            raise bad_parameter(key, f"{what} '{name}' does already exist")
        entries[name] = entries.pop(rename)
        comments[name] = comments.pop(rename, "")
    elif name in entries:
        raise bad_parameter(key, f"{what} '{name}' already exists")
    else:
        entries[name] = []
    if "comment" in call.params:
        comments[name] = call.params["comment"]


# Aliases.


def _register_aliases(level: Level) -> None:
    base = f"{level.base}/aliases"

    def get(call: Call) -> Item:
        found = level.file(call).aliases.get(call.params["name"].lower())
        if found is None:
            raise bad_parameter("name", "no such alias")
        return found

    def as_given(call: Call) -> Item:
        comment = {"comment": call.params["comment"]} if call.get("comment") else {}
        return {"name": call.params["name"], "cidr": call.params["cidr"], **comment}

    async def aliases(call: Call) -> Any:
        return with_digest(level.file(call).alias_list())

    async def alias(call: Call) -> Any:
        return get(call)

    async def add_alias(call: Call) -> Any:
        found, name = level.file(call).aliases, call.params["name"]
        if name.lower() in found:
            raise bad_parameter("name", f"alias '{name}' already exists")
        found[name.lower()] = as_given(call)

    async def change_alias(call: Call) -> Any:
        """A comment that is not given is gone."""
        found = level.file(call)
        check_digest(call.get("digest"), found.alias_list())
        get(call)
        name, rename = call.params["name"].lower(), call.get("rename")
        changed = as_given(call)
        if rename and rename.lower() != name:
            if rename.lower() in found.aliases:
                raise bad_parameter("name", f"alias '{rename}' already exists")
            del found.aliases[name]
            changed["name"] = rename
        found.aliases[changed["name"].lower()] = changed

    async def delete_alias(call: Call) -> Any:
        """Also one that rules name, and one that is not there."""
        found = level.file(call)
        check_digest(call.get("digest"), found.alias_list())
        found.aliases.pop(call.params["name"].lower(), None)

    cidr, comment = named("IPorCIDR", optional=False), text()
    routes.get(base, permission=level.read)(aliases)
    routes.post(base, {"name": NAMED.required, "cidr": cidr, "comment": comment}, level.write)(add_alias)
    routes.get(f"{base}/{{name}}", permission=level.read)(alias)
    change = {"cidr": cidr, "comment": comment, "rename": NAMED, "digest": DIGEST}
    routes.put(f"{base}/{{name}}", change, level.write)(change_alias)
    routes.delete(f"{base}/{{name}}", {"digest": DIGEST}, level.write)(delete_alias)


# IP sets.


def _register_ipsets(level: Level) -> None:
    base = f"{level.base}/ipset"

    async def ipsets(call: Call) -> Any:
        return with_digest(level.file(call).ipset_list())

    async def add_ipset(call: Call) -> Any:
        """With `rename`: another name or comment for one that is there."""
        found = level.file(call)
        put_named(call, "name", "IPSet", found.ipsets, found.ipset_comments, found.ipset_list())

    async def delete_ipset(call: Call) -> Any:
        """Also one that rules name: only members keep it."""
        found, name = level.file(call), call.params["name"]
        if _members(call, level) and not call.get("force"):
            die(f"IPSet '{name}' is not empty")
        del found.ipsets[name]
        found.ipset_comments.pop(name, None)

    routes.get(base, permission=level.read)(ipsets)
    more = {"comment": text(), "rename": NAMED, "digest": DIGEST}
    routes.post(base, {"name": NAMED.required, **more}, level.write)(add_ipset)
    routes.delete(f"{base}/{{name}}", {"force": boolean()}, level.write)(delete_ipset)
    _register_members(level, f"{base}/{{name}}")


def _members(call: Call, level: Level) -> list[Item]:
    found = level.file(call).ipsets.get(call.params["name"])
    return found if found is not None else die(f"no such IPSet '{call.params['name']}'")


def _member(call: Call, level: Level) -> Item:
    found = next((one for one in _members(call, level) if one["cidr"] == call.params["cidr"]), None)
    if found is None:
        raise bad_parameter("cidr", "no such IP/Network")
    return found


def _given_of_member(call: Call) -> Item:
    given = {"nomatch": 1 if call.get("nomatch") else None, "comment": call.get("comment") or None}
    return {key: value for key, value in given.items() if value is not None}


def _normal_cidr(call: Call, level: Level) -> str:
    cidr = str(call.params["cidr"])
    if alias := SCOPED_ALIAS.fullmatch(cidr):
        if find_alias(alias[1] or "", alias[2], level.file(call), call.cluster.firewall) is None:
            die(f"no such alias '{alias[2]}'")
        return cidr
    return clean_cidr(cidr)


def _register_members(level: Level, base: str) -> None:
    async def members(call: Call) -> Any:
        return with_digest(_members(call, level))

    async def member(call: Call) -> Any:
        found = _member(call, level)
        return {**found, "digest": digest_of(_members(call, level))}

    async def add_member(call: Call) -> Any:
        found, cidr = _members(call, level), _normal_cidr(call, level)
        if any(one["cidr"] == cidr for one in found):
            raise bad_parameter("cidr", f"address '{cidr}' already exists")
        if cidr.endswith("/0"):
            raise bad_parameter("cidr", "a zero prefix is not allowed in ipset entries")
        found.append({"cidr": cidr, **_given_of_member(call)})
        found.sort(key=lambda one: str(one["cidr"]))

    async def change_member(call: Call) -> Any:
        """A flag and a comment that are not given are gone."""
        check_digest(call.get("digest"), _members(call, level))
        found = _member(call, level)
        cidr = found["cidr"]
        found.clear()
        found |= {"cidr": cidr, **_given_of_member(call)}

    async def delete_member(call: Call) -> Any:
        """Also one that is not there."""
        found = _members(call, level)
        check_digest(call.get("digest"), found)
        found[:] = [one for one in found if one["cidr"] != call.params["cidr"]]

    more = {"nomatch": boolean(), "comment": text()}
    routes.get(base, permission=level.read)(members)
    routes.post(base, {"cidr": named("IPorCIDRorAlias", optional=False), **more}, level.write)(add_member)
    routes.get(f"{base}/{{cidr}}", permission=level.read)(member)
    routes.put(f"{base}/{{cidr}}", {**more, "digest": DIGEST}, level.write)(change_member)
    routes.delete(f"{base}/{{cidr}}", {"digest": DIGEST}, level.write)(delete_member)


for _level in (CLUSTER, VM, CONTAINER):
    _register_aliases(_level)
    _register_ipsets(_level)
