"""The parts of a report. Each takes values as `--json` prints them, and makes markup of them."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from nixops_proxmox.messages.amounts import amount, duration
from nixops_proxmox.messages.report.markup import Markup, Values, element, joined
from nixops_proxmox.messages.report.timeline import timelines
from nixops_proxmox.texts import moment_text

WORDS = {True: "yes", False: "no", None: "?"}
EFFECTS = {"nothing": "good", "refused": "bad", "recreate": "bad", "reinstall": "bad"}  # all others: warn


def table(about: str, heads: Sequence[str], rows: Iterable[Sequence[object]]) -> Markup:
    """A table that scrolls by itself, also with the keyboard."""
    lines = [element("tr", *(element("td", cell) for cell in row)) for row in rows]
    head = element("tr", *(element("th", one, scope="col") for one in heads))
    body = element("table", element("thead", head), element("tbody", *lines))
    return element("div", body, class_="wide", tabindex=0, role="group", aria_label=about)


def summary(machines: Sequence[Values]) -> Markup:
    phases = Counter(str(one["phase"]) for one in machines)
    told = ", ".join(f"{count} {phase}" for phase, count in phases.most_common())
    noun = "machine" if len(machines) == 1 else "machines"
    return element("p", f"{len(machines)} {noun}: {told}." if machines else "Nothing is deployed.")


def machines_part(machines: Sequence[Values]) -> Markup:
    heads = ("machine", "phase", "hypervisor", "node", "VMID", "address", "system")
    rows = [
        (
            element("strong", one["machine"]),
            _graded(one["phase"], "good" if one["phase"] == "ready" else "warn"),
            one["hypervisor"] or "-",
            one["node"] or "-",
            one["vmid"] or "-",
            _address(one["endpoint"]),
            element("code", str(one["system"]).rpartition("/")[2] or "-"),
        )
        for one in machines
    ]
    return table("All machines", heads, rows)


def _address(endpoint: Values | None) -> str:
    if endpoint is None:
        return "-"
    way = f" through {endpoint['jump']}" if endpoint["jump"] else ""
    return f"{endpoint['user']}@{endpoint['host']} port {endpoint['port']}{way}"


def _graded(word: object, grade: str) -> Markup:
    return element("span", word, class_=grade)


def endpoints_part(machines: Sequence[Values]) -> Iterator[Markup]:
    """Each address that was tried, and why it was taken or not."""
    for one in machines:
        lines = one.get("attempts") or []
        if lines:
            yield element("h3", one["machine"])
            yield element("ul", *(element("li", line) for line in lines))


def plan_part(plan: Values) -> Iterator[Markup]:
    rows = [
        (element("strong", one["machine"]), _graded(one["effect"], EFFECTS.get(one["effect"], "warn")), _plan_cell(one))
        for one in plan["machines"]
    ]
    yield table("What a deploy would do to each machine", ("machine", "a deploy", "what it does"), rows)
    if plan["no longer described"]:
        yield element("p", f"No longer described: {', '.join(plan['no longer described'])}.")


def _plan_cell(one: Values) -> Markup:
    if one["error"]:
        return element("span", one["error"], class_="bad")
    lines = [*one["moves"]]
    lines += [
        f"{change['key']}: {change['have'] or 'none'} → {change['want'] or 'none'}, {change['when']}"
        for change in one["changes"]
    ]
    lines += [f"restarts for: {', '.join(one['restart'])}"] if one["restart"] else []
    lines += [f"down for about {duration(one['downtime'])}, as the last time"] if one["downtime"] else []
    lines += [*one["notes"]]
    return element("ul", *(element("li", line) for line in lines)) if lines else joined("-")


def drift_part(checked: Sequence[Values]) -> Iterator[Markup]:
    looks = ("exists", "running", "reachable", "system_ok")
    rows = [
        (
            element("strong", one["machine"]),
            _graded("as described", "good") if one["ok"] else _graded("not as described", "bad"),
            *(WORDS[one[look]] for look in looks),
        )
        for one in checked
    ]
    heads = ("machine", "result", "exists", "runs", "answers", "has its system")
    yield table("What is true right now", heads, rows)
    for one in checked:
        lines = [*_drift_lines(one), *(f"{key} waits for a stop and start" for key in one["pending"]), *one["problems"]]
        if lines:
            yield element("h3", one["machine"])
            yield element("ul", *(element("li", line) for line in lines))


def _drift_lines(one: Values) -> Iterator[str]:
    origins = {drift["key"]: drift for drift in one["drift"]}
    for change in one["changes"]:
        drift = origins.get(change["key"])
        who = f" ({drift['origin']}{_by_whom(drift['tasks'])})" if drift else ""
        has, wanted = change["have"] or "none", change["want"] or "none"
        yield f"{change['key']}: it has {has}, the description says {wanted}{who}"


def _by_whom(tasks: Sequence[Values]) -> str:
    users = dict.fromkeys(str(task["user"]) for task in tasks)
    return f", probably by {' or '.join(users)}" if users else ""


def volumes_part(volumes: Sequence[Values]) -> Iterator[Markup]:
    rows = [
        (
            element("strong", one["volume"]),
            amount(one["size"]) if one["size"] else "-",
            one["storage"],
            one["machine"] or "parked",
            one["node"] or "-",
            one["phase"],
        )
        for one in volumes
    ]
    yield table("All volumes", ("volume", "size", "storage", "machine", "node", "phase"), rows)


def resources_part(resources: Sequence[Values]) -> Iterator[Markup]:
    rows = [
        (
            one["kind"],
            element("strong", one["name"]),
            one["phase"] or "unknown",
            element("ul", *(element("li", line) for line in (*one["differences"], *one["remarks"], *_error(one)))),
        )
        for one in resources
    ]
    yield table("All resources", ("kind", "name", "phase", "differences"), rows)


def _error(one: Values) -> list[str]:
    return [one["error"]] if one["error"] else []


def history_part(history: Sequence[Values]) -> Iterator[Markup]:
    yield from timelines(history)
    rows = [
        (
            moment_text(one["began"]),
            one["machine"] if one["kind"] == "machine" else f"{one['kind']} {one['machine']}",
            one["label"],
            f"{one['from']} → {one['to']}",
            _graded(one["outcome"], {"failed": "bad", "interrupted": "warn"}.get(one["outcome"], "good")),
            "-" if one["ended"] is None else duration(one["ended"] - one["began"]),
            one["error"].partition("\n")[0],
        )
        for one in reversed(history)
    ]
    heads = ("when", "what", "step", "phases", "outcome", "took", "error")
    yield element("details", element("summary", f"All {len(rows)} entries"), table("The history", heads, rows))
