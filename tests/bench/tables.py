"""The tables of docs/bench.md, of one result."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

FLEET = (
    ("machines", "machines"),
    ("wall s", "wall_s"),
    ("ratio to the critical path", "ratio"),
    ("client CPU s", "client_cpu_s"),
    ("CPU ms for each", "cpu_ms_per_machine"),
    ("beside SSH", "cpu_ms_beside_ssh"),
    ("peak MiB", "peak_rss_mib"),
    ("calls for each, with polls", "api_calls_per_machine"),
)


def tables(result: Mapping[str, Any]) -> str:
    return "\n\n".join(_tables(result)) + "\n"


def _tables(result: Mapping[str, Any]) -> Iterator[str]:
    if verbs := result.get("verbs"):
        keys = ("verb", "cpu_s", "ratio", "nix_s", "modules")
        yield table(
            ("command", "CPU s", "ratio", "Nix, CPU s", "modules"),
            ([row[key] for key in keys] for row in verbs["rows"]),
        )
        counts = ([what.replace("_", " "), one["total"], one["polls"]] for what, one in verbs["calls"].items())
        yield table(("verb", "calls", "polls"), counts)
    if calls := result.get("api_calls"):
        yield table(("call", "times"), ([f"`{call}`", count] for call, count in calls["by_endpoint"].items()))
    if fleets := result.get("fleet"):
        yield table([head for head, _ in FLEET], ([row[key] for _, key in FLEET] for row in fleets))
    if same := result.get("no_change"):
        layers = same["made_cpu_ms_by_layer"]
        heads = ("machines", *(f"{layer}, CPU ms for each" for layer in layers), "beside SSH")
        yield table(heads, [[same["machines"], *layers.values(), same["made_cpu_ms_beside_ssh"]]])
    if faulty := result.get("faults"):
        yield table(
            ("machines", "calls that go wrong", "ready after one run"),
            [[faulty["machines"], f"1 of {faulty['every']}", faulty["ready"]]],
        )
    if race := result.get("race"):
        rows = [
            ["p50, last of 8", f"{race['p50_ms']} ms"],
            ["p99, last of 8", f"{race['p99_ms']} ms"],
            ["wrong winners", race["wrong_winners"]],
        ]
        yield table(("measure", "result"), rows)


def table(heads: Sequence[str], rows: "Iterator[Sequence[object]] | Sequence[Sequence[object]]") -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)
