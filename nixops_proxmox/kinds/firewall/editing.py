"""Puts lists of PVE's firewall right, an entry at a time. PVE's digest tells us if somebody else was faster: then we
look again. A run that is cut off leaves a list that the next run puts right."""

from collections.abc import Callable, Mapping, Sequence

from nixops_proxmox.core.ports import Clock
from nixops_proxmox.errors import DeployError, StateError
from nixops_proxmox.kinds.firewall.ports import FirewallStore, Given, Shown
from nixops_proxmox.kinds.firewall.rules import Drop, Insert, Rewrite, RuleEdit, claimable, next_edit, pairs
from nixops_proxmox.pve.api.firewall import Where
from nixops_proxmox.spec.marks import bears_mark, with_mark

EDITS = 1000  # more than any list needs
PATIENCE = 10  # how often somebody else may be faster
PAUSE = 0.5  # seconds before we look again
CHANGED = "detected modified configuration"


class OthersFaster(Exception):
    """The list is not what it was a moment ago."""


def put_rules_right(api: FirewallStore, spot: Where, wanted: Sequence[Given], mark: str, clock: Clock) -> None:
    """StateError if others change the list all the time."""

    done: list[RuleEdit] = []

    def step() -> bool:
        found = api.rules(spot)
        edit = next_edit(found, wanted, mark)
        if edit is not None:
            if done[-1:] == [edit]:
                raise StateError("PVE did not keep a rule as we wrote it", hint="look at the rules in PVE")
            _do(api, spot, edit, found)
            done.append(edit)
        return edit is not None

    _repeat(step, clock, "the rules of the firewall")


def claim_rules(api: FirewallStore, spot: Where, wanted: Sequence[Given], mark: str, clock: Clock) -> None:
    """Write our mark into the comments of rules that are as described, and that have no mark yet."""

    def step() -> bool:
        found = api.rules(spot)
        places = claimable(found, wanted, mark)
        for place in places[:1]:
            comment = with_mark(str(found[place].get("comment", "")), mark)
            watched(lambda: api.change_rule(spot, place, {"comment": comment}, (), digest_of(found)))  # noqa: B023
        return bool(places)

    _repeat(step, clock, "the rules of the firewall")


def _repeat(step: Callable[[], bool], clock: Clock, what: str) -> None:
    """Until there is nothing to do. Safe to repeat: each step looks first."""
    lost = 0
    for _ in range(EDITS):
        try:
            if not step():
                return
        except OthersFaster as error:
            lost += 1
            if lost > PATIENCE:
                raise StateError(
                    f"cannot put {what} right: somebody else changes them all the time ({error})",
                    hint="wait until they are done, and try again",
                ) from error
            clock.sleep(PAUSE)
    raise StateError(f"cannot put {what} right: PVE does not keep what we write", hint="look at them in PVE")


def digest_of(found: Sequence[Shown]) -> str:
    return str(found[0].get("digest", "")) if found else ""


def watched(write: Callable[[], None]) -> None:
    """Raises OthersFaster where PVE refuses a digest."""
    try:
        write()
    except DeployError as error:
        if CHANGED not in error.message:
            raise
        raise OthersFaster(error.message) from error


def _do(api: FirewallStore, spot: Where, edit: RuleEdit, found: Sequence[Shown]) -> None:
    digest = digest_of(found)
    match edit:
        case Rewrite(place, values, gone):
            watched(lambda: api.change_rule(spot, place, values, gone, digest))
        case Drop(place):
            watched(lambda: api.delete_rule(spot, place, digest))
        case Insert(rule, before):
            _insert(api, spot, rule, before)


def _insert(api: FirewallStore, spot: Where, rule: Given, before: int) -> None:
    """PVE puts a new rule in front of all. So it is off until it is in its place: a rule that refuses everything must
    not stand above the ones that let us in, not even for a moment."""
    if before == 0:
        api.add_rule(spot, rule)
        return
    api.add_rule(spot, {**rule, "enable": "0"})
    found = api.rules(spot)
    if not found or pairs(found[0]) != pairs({**rule, "enable": "0"}):
        raise OthersFaster("another rule came in front")
    watched(lambda: api.move_rule(spot, 0, before + 1, digest_of(found)))
    if rule.get("enable", "1") != "0":
        found = api.rules(spot)
        if len(found) <= before or pairs(found[before]) != pairs({**rule, "enable": "0"}):
            raise OthersFaster("the rule was moved")
        watched(lambda: api.change_rule(spot, before, rule, (), digest_of(found)))


def put_options_right(
    api: FirewallStore, spot: Where, wanted: Given, usual: Mapping[str, str], gone: Sequence[str], clock: Clock
) -> None:
    """`usual`: what an option is that is not set. `gone`: what goes back to that."""

    def step() -> bool:
        found = api.options(spot)
        changes = {key: value for key, value in wanted.items() if option_in(found, key, usual) != value}
        left = [key for key in gone if key in found]
        if changes or left:
            watched(lambda: api.set_options(spot, changes, left, str(found.get("digest", ""))))
        return bool(changes or left)

    _repeat(step, clock, "the options of the firewall")


def option_in(found: Shown, key: str, usual: Mapping[str, str]) -> str:
    value = found.get(key)
    return usual[key] if value in (None, "") else str(value)


# IP sets.


def our_members(found: Sequence[Shown], mark: str) -> dict[str, Shown]:
    return {str(one["cidr"]): one for one in found if bears_mark(str(one.get("comment", "")), mark)}


def member_differences(
    found: Sequence[Shown], wanted: Mapping[str, Given], mark: str, label: str = ""
) -> Sequence[str]:
    """`wanted`: by address. What others have put in is none."""
    ours, there = our_members(found, mark), {str(one["cidr"]) for one in found}
    missing = [f"{label}{cidr} is missing" for cidr in wanted if cidr not in there]
    other = [f"{label}{cidr} {_sense(wanted[cidr])}" for cidr, one in ours.items()
             if cidr in wanted and _sense(one) != _sense(wanted[cidr])]  # fmt: skip
    return [*missing, *other, *(f"{label}{cidr} is not described any more" for cidr in ours if cidr not in wanted)]


def _sense(member: Mapping[str, object]) -> str:
    return "is left out" if str(member.get("nomatch", "0")) == "1" else "is in it"


def put_members_right(
    api: FirewallStore, spot: Where, name: str, wanted: Mapping[str, Given], mark: str, clock: Clock
) -> None:
    def step() -> bool:
        found = api.members(spot, name)
        ours, there = our_members(found, mark), {str(one["cidr"]) for one in found}
        for cidr, member in wanted.items():
            if cidr not in there:
                api.add_member(spot, name, member)
                return True
            if cidr in ours and _sense(ours[cidr]) != _sense(member):
                watched(lambda: api.change_member(spot, name, member, digest_of(found)))  # noqa: B023  # called here
                return True
        for cidr in ours:
            if cidr not in wanted:
                watched(lambda: api.delete_member(spot, name, cidr, digest_of(found)))  # noqa: B023
                return True
        return False

    _repeat(step, clock, f"the IP set {name}")
