"""Which entry of a list a machine takes."""

from pathlib import Path
from typing import Any

import pytest

from nixops_proxmox.addresses import Asked, MacPool, PoolEntry, choose
from nixops_proxmox.errors import DeployError

POOL = MacPool("campus", Path("machines.yml"))


def mac(number: int) -> str:
    return f"DE:AD:BE:EF:00:{number:02X}"


def entry(number: int, user: str = "", host: str = "") -> PoolEntry:
    return PoolEntry(
        number, mac(number), host or f"pvm{number:03}.example.com", user=user, date="2022-02-19" * bool(user)
    )


def asked(machine: str = "web", **more: Any) -> Asked:
    return Asked(machine, f"campus/{machine}", "anna", **more)


LIST = [entry(1, "Lars"), entry(2), entry(3, host="web.example.com"), entry(4, "bob (campus/db)"), entry(5)]


@pytest.mark.parametrize(
    ("machine", "more", "elsewhere", "taken"),
    [
        ("web", {}, {}, 3),  # it carries its name
        ("api", {}, {}, 2),  # the first that is free
        ("api", {"others": ["web", "pvm002"]}, {}, 5),  # those that carry others' names are left for them
        ("api", {}, {mac(2): "VM 104 (gitea) on pve1"}, 3),  # a VM has the MAC, and the list does not know
        ("db", {}, {}, 4),  # an earlier run took it, and its record was lost
        ("api", {"recorded": mac(5)}, {}, 5),  # an earlier run recorded it, and was killed before it wrote
        ("api", {"recorded": mac(1)}, {}, 2),  # … and Lars took it since
        (
            "api",
            {"recorded": mac(1), "keeps": True},
            {},
            1,
        ),  # the VM has this MAC: it keeps it, though the list names another
    ],
)
def test_which_is_taken(machine: str, more: dict[str, Any], elsewhere: dict[str, str], taken: int) -> None:
    assert choose(POOL, LIST, asked(machine, **more), elsewhere).line == taken


def test_a_second_nic_takes_no_entry_for_its_machines_name() -> None:
    assert choose(POOL, LIST, Asked("web", "campus/web.net1", "anna"), {}).line == 2


def test_a_name_that_its_own_user_has_reserved_is_taken() -> None:
    assert choose(POOL, [entry(1, "Anna", "web.example.com")], asked(), {}).line == 1


@pytest.mark.parametrize(
    ("entries", "more", "elsewhere", "words"),
    [
        (
            [entry(1, "Lars"), entry(2, "Lars"), entry(3, "anna (campus/db)")],
            {}, {}, ["no free entry", "3 of 3", "Lars 2, anna 1"],
        ),
        ([entry(1)], {}, {mac(1): "VM 104 (x) on pve1"}, ["pvm001.example.com (line 1) is on VM 104 (x) on pve1"]),
        ([entry(1)], {"others": ["pvm001"]}, {}, ["1 carry the names of other machines"]),
        ([entry(1, "Lars", "web.example.com")], {}, {}, ["carries its name, but Lars has it since 2022-02-19"]),
        ([entry(1, "", "web.example.com")], {}, {mac(1): "VM 7"}, ["the MAC DE:AD:BE:EF:00:01", "is on VM 7 already"]),
        ([], {"recorded": mac(1), "keeps": True}, {}, ["no longer in the pool campus"]),
        ([], {}, {}, ["it has 0 in all"]),
    ],
)  # fmt: skip
def test_what_keeps_it_from_one(
    entries: list[PoolEntry], more: dict[str, Any], elsewhere: dict[str, str], words: list[str]
) -> None:
    with pytest.raises(DeployError) as caught:
        choose(POOL, entries, asked(**more), elsewhere)
    assert all(word in caught.value.message for word in words), caught.value.message
    assert caught.value.hint
