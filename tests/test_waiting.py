"""A test waits for what it means, with a deadline (`tests.pace`). It does not sleep and hope that this was enough."""

import ast
from collections.abc import Iterator
from pathlib import Path

TESTS = Path(__file__).resolve().parent
SLEEPS = {"time.sleep", "sleep", "real_sleep", "asyncio.sleep"}
ENDS = {"deadline", "until", "patience", "timeout"}  # a loop that looks again and again has one of these

# Where real time itself is what is tested, or what is played.
ALLOWED = {
    "cli/fake.py: _walk": "plays a step that takes its time, so that progress can be seen",
    "contract/client_bench.py: sleep": "the lab's tasks go on in real time beside our stepped clock",
    "guest/test_vigil.py: handle": "plays a slow route",
    "lab/machines/test_rules.py: scenario": "a probation of no time is over when some has passed",
    "lab/test_service.py: test_a_lab_ends_with_what_started_it_however_that_ends": "nothing may happen: a lab looks"
    " each second whether its starter lives",
    "nixeval/test_activate.py: test_a_second_activation_waits_for_the_first": "nothing may happen: one that does not"
    " wait would be through by then",
    "nixops/test_gate.py: interrupted": "the signal comes at any moment, by dice",
    "pve/wire/test_transport.py: drip": "plays a proxy that sends a byte now and then",
    "pve/wire/test_transport.py: log_in": "plays a slow login, during which others come",
    "qemu/test_crashes.py: crash": "a real copy has no moments that could be waited for",
    "qemu/test_crashes.py: cut_the_network": "so long the cable is pulled",
    "qemu/test_crashes.py: kill_in_the_reboot": "into the half second in which the VM is off",
    "routers/daemons.py: hear": "the kernel tells dnsmasq of a new file, and dnsmasq does not say when it has read it",
}


def naps(text: str) -> Iterator[str]:
    """Functions that sleep, except in a loop that looks again and has an end."""
    tree = ast.parse(text)
    above = {below: node for node in ast.walk(tree) for below in ast.iter_child_nodes(node)}
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call) or ast.unparse(node.func) not in SLEEPS or is_zero(node):
            continue
        polls, function = False, above[node]
        while not isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef | ast.Module):
            polls = polls or isinstance(function, ast.While)
            function = above[function]
        named = {one.id for one in ast.walk(function) if isinstance(one, ast.Name)}
        named |= {one.attr for one in ast.walk(function) if isinstance(one, ast.Attribute)}
        if not (polls and named & ENDS):
            yield getattr(function, "name", "")


def is_zero(call: ast.Call) -> bool:
    """It only lets others have their turn."""
    return [ast.unparse(arg) for arg in call.args] == ["0"]


def test_no_test_sleeps_and_hopes() -> None:
    paths = [path for path in sorted(TESTS.rglob("*.py")) if path != Path(__file__)]
    found = [f"{path.relative_to(TESTS)}: {name}" for path in paths for name in naps(path.read_text())]
    assert sorted(found) == sorted(ALLOWED)


def test_a_nap_is_found_and_a_wait_with_a_deadline_is_none() -> None:
    text = """
def hopes():
    start()
    time.sleep(2)
def tries():
    for _ in range(5):
        time.sleep(0.1)
def never_ends():
    while not true():
        time.sleep(0.1)
def waits():
    deadline = time.monotonic() + patience(5)
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.1)
async def yields():
    await asyncio.sleep(0)
"""
    assert list(naps(text)) == ["hopes", "tries", "never_ends"]
