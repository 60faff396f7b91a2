"""`scripts/bench`: measures, says what it does on stderr, and prints one JSON object (or a summary) on stdout."""

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nixops_proxmox.lab.starter import name_starter
from tests.bench.faulty import measure_faults
from tests.bench.fleet import critical_path, measure_fleet, start_scripted_lab
from tests.bench.guests import guest_summary, measure_guests
from tests.bench.limits import objections
from tests.bench.racing import measure_race
from tests.bench.tables import tables
from tests.bench.verbs import measure_verbs
from tests.bench.ways import measure_ways, ways_summary

LEFT_OUT = "Nix's evaluation, build and copy: machines are installed from a configuration.nix, and guests are a model"
PARTS = ("api_calls", "fleet", "race", "no_change", "verbs", "faults")


def say(text: str) -> None:
    sys.stderr.write(f"bench: {text}\n")
    sys.stderr.flush()


def measure(parts: Sequence[str], fleets: Sequence[int], races: int, *, quick: bool = False) -> dict[str, Any]:
    """The object that --json prints; a part that was not asked for is not in it."""
    result: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="nixops-proxmox-bench.") as scratch:
        folder = Path(scratch)
        if "api_calls" in parts:
            say("one machine, created and installed, in a lab that answers at once")
            with start_scripted_lab(folder / "calls", realistic=False) as lab:
                result["api_calls"] = measure_fleet(lab, 1, folder / "calls-client")["calls"]
        if "fleet" in parts:
            result["fleet"] = measure_fleets(fleets, folder)
            result["fleet_left_out"] = LEFT_OUT
        if "race" in parts:
            say(f"{races} races of 8 candidates of which 7 are black holes, and as many with decoys")
            result["race"] = measure_race(races)
        if "no_change" in parts:
            say("100 machines in a lab that answers at once, and then again without a change")
            with start_scripted_lab(folder / "same", realistic=False) as lab:
                again = measure_fleet(lab, 100, folder / "same-client", times=2)
            result["no_change"] = {
                "machines": 100,
                "api_calls": again["again"]["total"] + again["again"]["polls"],
                "made_cpu_s": round(again["cpu_s"], 2),
                "made_wall_s": round(again["wall_s"], 2),
                "made_cpu_ms_by_layer": by_layer(again, 100),
                "made_cpu_ms_beside_ssh": beside_ssh(again, 100),
            }
        if "faults" in parts:
            result["faults"] = measure_faults(folder, 20 if quick else 200, say)
        if "verbs" in parts:
            result["verbs"] = measure_verbs(folder / "verbs", 1 if quick else 5, say)
    return result


def measure_fleets(fleets: Sequence[int], folder: Path) -> list[dict[str, Any]]:
    """A row for each size. The machines are all alike, so the critical path is that of any of them."""
    rows: list[dict[str, Any]] = []
    path = critical_path()
    for count in sorted(fleets):
        say(f"{count} machine{'s' * (count > 1)}, with the latencies of a small cluster")
        with start_scripted_lab(folder / f"fleet-{count}", realistic=True) as lab:
            found = measure_fleet(lab, count, folder / f"client-{count}")
        calls = found["calls"]["total"] + found["calls"]["polls"]
        rows.append(
            {
                "machines": count,
                "wall_s": round(found["wall_s"], 2),
                "critical_path_s": round(path, 2),
                "ratio": round(found["wall_s"] / path, 3),
                "client_cpu_s": round(found["cpu_s"], 2),
                "cpu_ms_per_machine": round(1000 * found["cpu_s"] / count),
                "cpu_ms_by_layer": by_layer(found, count),
                "cpu_ms_beside_ssh": beside_ssh(found, count),
                "peak_rss_mib": round(found["rss_mib"], 1),
                "api_calls_per_machine": round(calls / count, 2),
                "ready": found["ready"],
            }
        )
        say(json.dumps(rows[-1]))
    return rows


def by_layer(found: Mapping[str, Any], count: int) -> dict[str, float]:
    """Milliseconds of CPU for each machine."""
    return {layer: round(1000 * seconds / count, 1) for layer, seconds in found["layers"].items()}


def beside_ssh(found: Mapping[str, Any], count: int) -> int:
    """Milliseconds of CPU for each machine, with a share of the start of Python."""
    seconds: float = found["cpu_s"] - found["layers"]["ssh"]
    return round(1000 * seconds / count)


def summary(result: dict[str, Any]) -> str:
    lines = []
    if calls := result.get("api_calls"):
        lines.append(f"one machine: {calls['total']} API calls and {calls['polls']} polls")
    for row in result.get("fleet", []):
        lines.append(
            f"{row['machines']} machines: {row['wall_s']} s ({row['ratio']} of the critical path), client: "
            f"{row['client_cpu_s']} s CPU ({row['cpu_ms_beside_ssh']} ms for each beside SSH), "
            f"{row['peak_rss_mib']} MiB; {row['api_calls_per_machine']} calls each"
        )
    if race := result.get("race"):
        lines.append(f"race: p50 {race['p50_ms']} ms, p99 {race['p99_ms']} ms, wrong winners {race['wrong_winners']}")
    if same := result.get("no_change"):
        lines.append(
            f"{same['machines']} machines at once: {same['made_wall_s']} s, client: {same['made_cpu_s']} s CPU"
            f" ({same['made_cpu_ms_beside_ssh']} ms for each beside SSH); then no change: {same['api_calls']} API calls"
        )
    if faulty := result.get("faults"):
        lines.append(
            f"{faulty['machines']} machines, 1 of {faulty['every']} calls wrong: {faulty['ready']} ready at once"
        )
    for row in result.get("verbs", {"rows": ()})["rows"]:
        lines.append(
            f"{row['verb']}: {row['cpu_s']} s CPU, {row['ratio']} of the reference, and Nix {row['nix_s']} s;"
            f" {row['modules']} modules"
        )
    for what, calls in result.get("verbs", {"calls": {}})["calls"].items():
        lines.append(f"{what.replace('_', ' ')}: {calls['total']} API calls and {calls['polls']} polls")
    if guests := result.get("qemu"):
        lines += guest_summary(guests)
    if ways := result.get("ways"):
        lines += ways_summary(ways)
    return "\n".join(lines)


def measure_real(sizes: Sequence[int]) -> dict[str, Any]:
    """A machine or several from the ISO, and the parts of that."""
    with tempfile.TemporaryDirectory(prefix="nixops-proxmox-bench.") as scratch:
        return {"qemu": measure_guests(Path(scratch), sizes, say)}


def measure_each_way(times: int) -> dict[str, Any]:
    """One machine by each way to a first boot."""
    with tempfile.TemporaryDirectory(prefix="nixops-proxmox-bench.") as scratch:
        return {"ways": measure_ways(Path(scratch), times, say)}


def main(words: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="scripts/bench", description="Measures what the tool costs.")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--tables", action="store_true", help="print the tables of docs/bench.md")
    parser.add_argument("--check", action="store_true", help="fail where there are more calls or modules than allowed")
    parser.add_argument("--only", choices=PARTS, action="append", help="only this part (may be repeated)")
    parser.add_argument("--machines", metavar="N,N,…", help="sizes of the fleets (1,10,100,1000; --qemu: 1,2,3)")
    parser.add_argument("--qemu", action="store_true", help="instead: real guests, from nothing to ready")
    parser.add_argument("--ways", action="store_true", help="instead: from a description to SSH, by each way")
    parser.add_argument("--times", type=int, default=4, metavar="N", help="--ways: how many machines of each (4)")
    parser.add_argument("--quick", action="store_true", help="fleets of 1 and 10, and fewer races")
    parser.add_argument("--races", type=int, default=1000, metavar="N", help="how many races (1000)")
    args = parser.parse_args(words)
    name_starter(os.environ, os.getpid())
    usual = "1,2,3" if args.qemu else "1,10" if args.quick else "1,10,100,1000"
    sizes = [int(count) for count in (args.machines or usual).split(",")]
    races = min(args.races, 100) if args.quick else args.races
    if args.ways:
        result = measure_each_way(args.times)
    else:
        result = measure_real(sizes) if args.qemu else measure(args.only or PARTS, sizes, races, quick=args.quick)
    told = json.dumps(result, indent=2) if args.json else tables(result) if args.tables else summary(result)
    sys.stdout.write(told + "\n")
    exceeded = objections(result) if args.check else []
    for objection in exceeded:
        say(f"too much: {objection}")
    return int(bool(exceeded))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
