"""The demo's third story: routers, services and HA on three nodes, of which one loses its power.

It is the node of the router that has the virtual address. The other router takes the address over, and HA starts
elsewhere what was on that node.
"""

import json
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from daemons import get_daemons
from laboratory_packages import PARTS
from stage import LAB, ROOT, Demo, DemoFailed, history, machine_spans, require, say, tool_argv, wait_for

NETWORK = ROOT / "examples" / "laboratory" / "lab" / "network.nix"
MACHINES = ("router1", "router2", "dns", "proxy", "metrics", "web1", "web2", "desk")
VIRTUAL = "10.77.0.254"  # the desk's way to the services
WWW = "http://www.example.lab/"
# Machines at once. Most are reached through router1, which a busy computer makes slow: each login is work for it, too.
BATCH = {"simulated": "4", "qemu": "2"}
SOON = 15.0  # seconds: VRRP waits for three announcements, one a second, and a client for a name and a connection
HA_SECONDS = 400.0  # two minutes until the node is fenced
BOOT_SECONDS = 300.0  # with real guests, on a busy machine
WATCH_SECONDS = 60  # HA does nothing before they are over
WATCH = f"watch {WWW} {WATCH_SECONDS}"


def run(demo: Demo) -> None:
    with demo.part("Get the daemons"):
        demo.environment["DEMO_PACKAGES"] = str(get_daemons(PARTS, demo.guests))
    with demo.part("Start a lab with three nodes, which takes as long as a cluster"):
        demo.tool("lab", "up", f"--{demo.guests}", "--pve", "9.1", "--nodes", "3", "--realistic")
    with demo.part("Deploy the eight machines"):
        demo.tool("deploy", "--jobs", BATCH[demo.guests], *demo.network, *LAB)
        demo.tool("status", *demo.network)
    with demo.part("Ask the name server for an address"):
        said = demo.on("desk", "lease eth1")
        say(said)
        require("by way of 10.77.5.254, of example.lab" in said, "the name server's machine offered no address")
    with demo.part("Tell Prometheus of the machines"):
        tell_prometheus(demo)
    with demo.part("Ask the service from outside, through the virtual address"):
        say(demo.on("desk", "ip route get 10.77.1.11"))
        say(
            wait_for(
                lambda: demo.on("desk", f"curl --silent --max-time 5 {WWW} || true"),
                lambda answer: "it works" in answer,
                60.0,
                lambda answer: f"{WWW} answered {answer!r}, without 'it works'",
            )
        )
    master = find_master(demo)
    with demo.part(f"Cut the power of the node of {master}, which has the virtual address"):
        before = whereabouts(demo)
        node = before[master][0]
        lost = sorted(name for name, (where, _) in before.items() if where == node)
        say(f"on {node}: {', '.join(lost)}")
        began = time.monotonic()
        milliseconds = cut_and_watch(demo, node)
        say(f"The service answered again after {milliseconds / 1000:.1f} seconds.")
        require(milliseconds < SOON * 1000, f"the service was silent for {milliseconds / 1000:.1f} seconds")
        require(find_master(demo, lost) != master, "no other router has the virtual address")
    with demo.part("HA starts elsewhere what was on that node"):
        wait_for_ha(demo, node)
        wait_for_boot(demo, lost)
        say(f"HA has started {', '.join(lost)} on other nodes, {time.monotonic() - began:.0f} seconds after that.")
    with demo.part("The machines are where HA put them, and `check` finds no difference"):
        demo.tool("check", *demo.network)
        after = whereabouts(demo)
        require(after["router1"][0] != after["router2"][0], "both routers are on one node")
        require(after["web1"][0] != after["web2"][0], "both web machines are on one node")
    with demo.part("Deploy again: nothing changes, and Prometheus reaches all of them"):
        last = len(history(demo))
        demo.tool("deploy", *demo.network, *LAB)
        require(len(history(demo)) == last + len(lost), "a deploy did more than record where HA put two machines")
        recorded = {one["machine"]: one["node"] for one in demo.ask("status", *demo.network)["machines"]}
        require(all(recorded[name] == after[name][0] for name in recorded), "the record has a machine on its old node")
        require(whereabouts(demo) == after, "the deploy moved a machine")
        see_all(demo)
    demo.spans += machine_spans(history(demo), MACHINES)
    with demo.part("Give the node its power back: HA has nothing to do"):
        demo.tool("lab", "power", node, "on")
        demo.tool("check", *demo.network)
    demo.end()


def whereabouts(demo: Demo) -> dict[str, tuple[str, str]]:
    """The node of each machine, and whether it runs, as the cluster knows it."""
    vms: dict[str, dict[str, Any]] = demo.ask("lab", "status")["vms"]
    return {vm["name"]: (vm["node"], vm["status"]) for vm in vms.values()}


def find_master(demo: Demo, without: list[str] | None = None) -> str:
    """The router that has the virtual address; `without`: machines that are gone."""
    routers = [name for name in ("router1", "router2") if name not in (without or [])]
    return wait_for(
        lambda: [name for name in routers if f"{VIRTUAL}/" in demo.on(name, "ip -brief address show eth0")],
        lambda having: len(having) == 1,
        30.0,  # a router that has just come takes the address from the other one
        lambda having: f"the virtual address is on {having or 'no router'}, and not on one",
    )[0]


def tell_prometheus(demo: Demo) -> None:
    """What we export, to where it looks."""
    file = demo.scratch / "machines.json"
    demo.tool("export", *demo.network, "prometheus", "--port", "9100", "--out", str(file))
    demo.tool("scp", *demo.network, str(file), "metrics:/var/lib/prometheus/targets/")
    see_all(demo)


def see_all(demo: Demo) -> None:
    seen = wait_for(
        lambda: watched(demo),
        lambda seen: seen == sorted(MACHINES),
        60.0,
        lambda seen: f"Prometheus reaches only {seen}",
    )
    say(f"Prometheus reaches all of them: {', '.join(seen)}")


def watched(demo: Demo) -> list[str]:
    """The machines that Prometheus reaches."""
    found = json.loads(demo.on("metrics", "ask 'up == 1'"))["data"]["result"]
    return sorted(one["metric"]["machine"] for one in found)


def cut_and_watch(demo: Demo, node: str) -> int:
    """For how many milliseconds the desk got no answer: at the longest, for a slow answer is a short silence, too."""
    with watching(demo) as lines:
        require(next(lines, "").startswith("answers: "), "the desk gets no answer while all nodes run")
        demo.tool("lab", "power", node, "off")
        for line in lines:
            if line.startswith("the longest silence: "):
                return int(line.split()[3])
    raise DemoFailed("the service did not answer again")


@contextmanager
def watching(demo: Demo) -> Iterator[Iterator[str]]:
    """The lines of the desk's watch."""
    say(f"$ nixops-proxmox ssh desk -- {WATCH}")
    argv = tool_argv("ssh", *demo.network, "desk", "--", WATCH)
    with subprocess.Popen(argv, env=demo.environment, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield told(process.stdout)
        finally:
            process.terminate()


def told(lines: Iterator[str]) -> Iterator[str]:
    for line in lines:
        say(f"desk: {line.strip()}")
        yield line


def wait_for_ha(demo: Demo, node: str) -> None:
    wait_for(
        lambda: whereabouts(demo),
        lambda found: all(where != node and status == "running" for where, status in found.values()),
        HA_SECONDS,
        lambda found: f"after {HA_SECONDS:.0f} seconds, HA has not started all machines: {found}",
    )


def wait_for_boot(demo: Demo, machines: list[str]) -> None:
    """HA says `running` when a machine has power; this is when one can log in."""
    wait_for(
        lambda: [name for name in machines if not is_up(demo, name)],
        lambda silent: not silent,
        BOOT_SECONDS,
        lambda silent: f"{BOOT_SECONDS:.0f} seconds after HA started them, no login works on {', '.join(silent)}",
    )


def is_up(demo: Demo, machine: str) -> bool:
    try:
        demo.on(machine, "true")
    except (DemoFailed, subprocess.TimeoutExpired):
        return False
    return True
