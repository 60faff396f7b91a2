"""The demo's first story: three machines from nothing to an HTTP answer, changed, and away again."""

from stage import LAB, ROOT, Demo, history, machine_spans, require, say

NETWORK = ROOT / "examples" / "demo" / "network.nix"
MACHINES = ("web", "app", "db")
WEB = "http://[fd77:77::11]/", "http://10.77.0.11/"


def deploy(demo: Demo, version: str) -> None:
    demo.tool("deploy", *demo.network, *LAB, env={"DEMO_VERSION": version} if version != "1" else {})


def run(demo: Demo) -> None:
    with demo.part("Start the lab"):
        demo.tool("lab", "up", f"--{demo.guests}")
    with demo.part("Deploy web, app and db"):
        deploy(demo, "1")
    with demo.part("Ask web, which asks app, which asks db"):
        for url in WEB:
            demo.fetch(url, "web (version 1) -> app -> db: 42 rows")
    with demo.part("Look at them"):
        demo.tool("status", *demo.network)
        machines = demo.ask("status", *demo.network)["machines"]
        require([m["phase"] for m in machines] == ["ready"] * len(MACHINES), "not every machine is ready")
    with demo.part("Deploy again: nothing changes"):
        before, last = demo.calls(), len(history(demo))
        deploy(demo, "1")
        calls = demo.calls() - before
        say(f"API calls: {calls}")
        require(calls <= 1 + len(MACHINES), f"a deploy without a change took {calls} API calls")
        require(len(history(demo)) == last, "a deploy without a change took a step")
    with demo.part("Deploy a change: it is only activated"):
        last = len(history(demo))
        deploy(demo, "2")
        demo.fetch(WEB[0], "web (version 2) -> app -> db: 42 rows")
        steps = [(entry["machine"], entry["from"], entry["to"]) for entry in history(demo)[last:]]
        require(all(machine == "web" for machine, _, _ in steps), f"more than web was touched: {steps}")
        require({to for _, _, to in steps} <= {"running", "ready"}, f"more than an activation was done: {steps}")
    demo.spans += machine_spans(history(demo), MACHINES)
    demo.end()
