"""IP sets and aliases of the cluster. One is ours if its comment bears our mark; so is a member of a set."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from nixops_proxmox.core.kind import Known, Thing
from nixops_proxmox.core.table import Attempt
from nixops_proxmox.errors import StateError
from nixops_proxmox.kinds.firewall import editing
from nixops_proxmox.kinds.firewall.ports import FirewallStore, Given, Shown
from nixops_proxmox.kinds.firewall.words import Neighbourhood
from nixops_proxmox.kinds.resource import (
    Describable,
    ResourceWorld,
    Setting,
    Stranger,
    comment_changes,
    described_rows,
    pve_world,
    stranger_at,
)
from nixops_proxmox.pve.api.firewall import of_cluster
from nixops_proxmox.pve.api.versions import Release
from nixops_proxmox.pve.cluster.permissions import Need
from nixops_proxmox.spec.firewall import ALIAS, IP_SET, AddressAlias, IpSet, SecurityGroup, parse_word
from nixops_proxmox.spec.marks import bears_mark, with_mark

SetWorld: TypeAlias = ResourceWorld[IpSet, FirewallStore]
AliasWorld: TypeAlias = ResourceWorld[AddressAlias, FirewallStore]


def wanted_members(words: Iterable[str], around: Neighbourhood, mark: str) -> dict[str, Given]:
    """By address. Of a name that has none now, nothing is in the set."""
    found: dict[str, Given] = {}
    for word in map(parse_word, words):
        for text in around.texts(word):
            cidr = text.removesuffix("/32").removesuffix("/128")
            found.setdefault(cidr, {"cidr": cidr, "comment": mark, **({"nomatch": "1"} if word.negated else {})})
    return found


def refuse_used(api: FirewallStore, kind: str, name: str, word: str) -> None:
    """StateError while rules name it: PVE would delete it all the same, and the rules would have no effect."""
    if users := api.users_of(word):
        raise StateError(
            f"cannot delete the {kind} {name}: it is named by {', '.join(users)}",
            hint="take it out of these rules, and try again",
        )


@dataclass(frozen=True)
class SetSeen:
    comment: str
    members: Sequence[Shown]


class IpSetKind:
    name = IP_SET

    def look(self, world: SetWorld, thing: Thing, /) -> SetSeen | None:
        del thing
        name = world.spec.pve_name
        comment = world.api.sets(of_cluster()).get(name)
        if comment is None or not bears_mark(comment, world.mark):
            return None
        return SetSeen(comment, world.api.members(of_cluster(), name))

    def diff(self, world: SetWorld, found: SetSeen, /) -> Sequence[str]:
        comment = comment_changes(found.comment, world.spec.comment, world.mark)
        return [*comment, *editing.member_differences(found.members, _members(world), world.mark)]

    def apply(self, world: SetWorld, thing: Thing, attempt: Attempt[Thing, Known], /) -> Known:
        del thing
        api, name, comment = world.api, world.spec.pve_name, with_mark(world.spec.comment, world.mark)
        have = api.sets(of_cluster()).get(name)
        if have is None:
            # Safe to repeat: PVE refuses a second set of this name, and we have just looked.
            api.add_set(of_cluster(), name, comment)
        elif not bears_mark(have, world.mark):
            raise _not_ours("IP set", name, world.spec, f'rules can name it as it is: "+{name}"')
        elif have != comment:
            # Safe to repeat: the same comment again changes nothing.
            api.set_set_comment(of_cluster(), name, comment)
        editing.put_members_right(api, of_cluster(), name, _members(world), world.mark, world.clock)
        return attempt.facts

    def remove(self, world: SetWorld, thing: Thing, attempt: Attempt[Thing, Known], /) -> Known:
        """StateError for one that rules name, and for one that others have put something into."""
        del attempt
        found = self.look(world, thing)
        if found is None:
            return Known()
        name = world.spec.pve_name
        refuse_used(world.api, "IP set", name, f"+{name}")
        others = [str(one["cidr"]) for one in found.members if not bears_mark(str(one.get("comment", "")), world.mark)]
        if others:
            raise StateError(
                f"cannot delete the IP set {name}: others have put in {', '.join(others)}",
                hint="take them out of it, and try again",
            )
        editing.put_members_right(world.api, of_cluster(), name, {}, world.mark, world.clock)
        # Safe to repeat: PVE deletes only an empty set, and one that is gone needs nothing.
        world.api.delete_set(of_cluster(), name)
        return Known()


def _members(world: SetWorld) -> Mapping[str, Given]:
    return wanted_members(world.spec.addresses, Neighbourhood.of(world.setting), world.mark)


def _not_ours(kind: str, name: str, spec: IpSet | AddressAlias, hint: str) -> StateError:
    return StateError(f"{kind} {spec.name}: {spec.profile} has one {name}, and it is not ours", hint=hint)


class AliasKind:
    name = ALIAS

    def look(self, world: AliasWorld, thing: Thing, /) -> Shown | None:
        del thing
        found = world.api.aliases().get(world.spec.pve_name.lower())
        return found if found is not None and bears_mark(str(found.get("comment", "")), world.mark) else None

    def diff(self, world: AliasWorld, found: Shown, /) -> Sequence[str]:
        want, have = _address(world), str(found["cidr"])
        address = [f"{have} becomes {want}"] if want and have != want else []
        return [*address, *comment_changes(str(found.get("comment", "")), world.spec.comment, world.mark)]

    def apply(self, world: AliasWorld, thing: Thing, attempt: Attempt[Thing, Known], /) -> Known:
        """StateError for a name that has no address yet: PVE has no empty alias."""
        api, name, address = world.api, world.spec.pve_name, _address(world)
        have = api.aliases().get(name.lower())
        if not address:
            raise StateError(
                f"alias {thing.name}: {world.spec.address} has no address yet",
                hint="it has one once the machine that it names is there",
            )
        wanted = {"name": name, "cidr": address, "comment": with_mark(world.spec.comment, world.mark)}
        if have is None:
            # Safe to repeat: PVE refuses a second alias of this name, and we have just looked.
            api.add_alias(wanted)
        elif not bears_mark(str(have.get("comment", "")), world.mark):
            raise _not_ours("alias", name, world.spec, f'rules can name it as it is: "dc/{name}"')
        else:
            # Safe to repeat: the same again changes nothing.
            api.change_alias(wanted, str(have.get("digest", "")))
        return attempt.facts

    def remove(self, world: AliasWorld, thing: Thing, attempt: Attempt[Thing, Known], /) -> Known:
        """StateError for one that rules name."""
        del attempt
        found = self.look(world, thing)
        if found is not None:
            name = world.spec.pve_name
            refuse_used(world.api, "alias", name, name)
            # Safe to repeat: one that is gone needs nothing.
            world.api.delete_alias(name, str(found.get("digest", "")))
        return Known()


def _address(world: AliasWorld) -> str:
    """The first one, where a machine has several; "" where it has none."""
    found = Neighbourhood.of(world.setting).texts(parse_word(world.spec.address))
    return found[0].removesuffix("/32").removesuffix("/128") if found else ""


def find_strange_set(world: SetWorld) -> Stranger | None:
    api, name = world.api, world.spec.pve_name
    return stranger_at(
        api.sets(of_cluster()).get(name),
        world.mark,
        lambda marked: IpSetKind().diff(world, SetSeen(marked, api.members(of_cluster(), name))),
        lambda marked: api.set_set_comment(of_cluster(), name, marked),
    )


def find_strange_alias(world: AliasWorld) -> Stranger | None:
    api, have = world.api, world.api.aliases().get(world.spec.pve_name.lower())
    if have is None:
        return None
    same = {"name": str(have["name"]), "cidr": str(have["cidr"])}
    return stranger_at(
        str(have.get("comment", "")),
        world.mark,
        lambda marked: AliasKind().diff(world, {**same, "comment": marked}),
        lambda marked: api.change_alias({**same, "comment": marked}, str(have.get("digest", ""))),
    )


SETS, ALIASES = described_rows(IpSetKind()), described_rows(AliasKind())


def needs(spec: IpSet | AddressAlias | SecurityGroup, release: Release) -> Iterator[Need]:
    del spec, release
    yield Need(("/",), ("Sys.Audit",), "see the cluster's firewall")
    yield Need(("/",), ("Sys.Modify",), "make IP sets, aliases and security groups")


def make_set_world(spec: IpSet, setting: Setting) -> SetWorld:
    return pve_world(spec, setting, lambda hypervisor: hypervisor.firewall_store)


def make_alias_world(spec: AddressAlias, setting: Setting) -> AliasWorld:
    return pve_world(spec, setting, lambda hypervisor: hypervisor.firewall_store)


DESCRIBED_SETS = Describable(IpSet, make_set_world, needs, stranger=find_strange_set)
DESCRIBED_ALIASES = Describable(AddressAlias, make_alias_world, needs, stranger=find_strange_alias)
