"""Machines by the hypervisor that they are on, or will be: one after another where there are several."""

from collections.abc import Callable, Sequence
from typing import TypeVar

T = TypeVar("T")


def by_hypervisor(items: Sequence[T], of: Callable[[T], str]) -> dict[str, list[T]]:
    """By name; within that as they were. A machine that has none yet comes last, under an empty name."""
    found: dict[str, list[T]] = {}
    for item in items:
        found.setdefault(of(item), []).append(item)
    return {name: found[name] for name in sorted(found, key=lambda name: (not name, name))}


def grouped(items: Sequence[T], of: Callable[[T], str]) -> list[T]:
    """All of them, one hypervisor after another."""
    return [item for items in by_hypervisor(items, of).values() for item in items]


def heading(name: str, count: int) -> str:
    return f"on {name}: {'1 machine' if count == 1 else f'{count} machines'}"
