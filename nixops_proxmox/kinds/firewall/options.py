"""The options of a firewall: which of them are ours. PVE marks none, so the record says which ones we have set."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace

from nixops_proxmox.core.kind import Known
from nixops_proxmox.kinds.firewall.editing import option_in
from nixops_proxmox.kinds.firewall.ports import Given, Shown

OPTIONS = "options"  # known: the options that we have set, by PVE's names


def known_options(facts: Known) -> list[str]:
    return [name for name in facts.values.get(OPTIONS, "").split(",") if name]


def knowing(facts: Known, options: Collection[str]) -> Known:
    return replace(facts, values={**facts.values, OPTIONS: ",".join(sorted(options))})


def as_options(said: Mapping[str, bool | str | None]) -> dict[str, str]:
    """As PVE takes them, without those that are unset."""
    return {
        key: str(int(value)) if isinstance(value, bool) else value for key, value in said.items() if value is not None
    }


def option_differences(found: Shown, wanted: Given, usual: Mapping[str, str], known: Sequence[str]) -> Iterator[str]:
    """`usual`: what an option is that is not set. `known`: those that we have set before."""
    for key, value in wanted.items():
        have = option_in(found, key, usual)
        if have != value:
            yield f"{key.replace('_', ' ')}: {have} becomes {value}"
    yield from (f"{key.replace('_', ' ')} is not described any more" for key in known if key not in wanted)
