"""What may be done twice says why that is safe, in one sentence at the place: "Safe to repeat: …"."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "nixops_proxmox"
MODULES = [path for path in sorted(PACKAGE.rglob("*.py")) if path.relative_to(PACKAGE).parts[0] != "lab"]
SAYS_WHY = re.compile(r"safe\s+to\s+(?:#\s+)?repeat:\s+(?:#\s+)?\S+ \S+", re.IGNORECASE)
KINDS = ("kinds", "core/kind.py")  # where the steps and errands are

Function = ast.FunctionDef | ast.AsyncFunctionDef


def leaves(body: list[ast.stmt]) -> bool:
    """After it, the loop does not go round again."""
    match body[-1]:
        case ast.Raise() | ast.Return() | ast.Break():
            return True
        case ast.If(body=then, orelse=other):
            return bool(other) and leaves(then) and leaves(other)
        case _:
            return False


def goes_round(loop: ast.AST) -> bool:
    """A loop that does the same again, not the next: it is no `for` over things."""
    if isinstance(loop, ast.While):
        return True
    return isinstance(loop, ast.For) and re.match(r"range\(", ast.unparse(loop.iter)) is not None


def repeats(function: Function) -> bool:
    """It has a loop in which an error does not end it: so what failed is done again."""
    return any(
        not leaves(handler.body)
        for loop in ast.walk(function)
        if goes_round(loop)
        for node in ast.walk(loop)
        if isinstance(node, ast.Try)
        for handler in node.handlers
    )


def functions(tree: ast.AST) -> Iterator[Function]:
    return (node for node in ast.walk(tree) if isinstance(node, Function))


def silent(text: str) -> list[str]:
    """Functions that repeat something and do not say why that is safe."""
    found = [one for one in functions(ast.parse(text)) if repeats(one)]
    return [one.name for one in found if not SAYS_WHY.search(ast.get_source_segment(text, one) or "")]


def test_each_loop_that_repeats_a_call_says_why_that_is_safe() -> None:
    assert sum(repeats(one) for path in MODULES for one in functions(ast.parse(path.read_text()))) > 15
    assert [f"{path.relative_to(ROOT)}: {name}" for path in MODULES for name in silent(path.read_text())] == []


def test_each_step_and_errand_says_why_it_may_be_done_again() -> None:
    places = [path for path in MODULES if path.relative_to(PACKAGE).as_posix().startswith(KINDS)]
    steps = [
        (path, step, function)
        for path in places
        for step in ast.walk(ast.parse(path.read_text()))
        if isinstance(step, ast.ClassDef)
        and not any(re.match("Protocol|ABC", ast.unparse(base)) for base in step.bases)
        for function in step.body
        if isinstance(function, ast.FunctionDef) and function.name == "do"
    ]
    assert len(steps) > 20
    assert [
        f"{path.relative_to(ROOT)}: {step.name}"
        for path, step, function in steps
        if not SAYS_WHY.search(ast.get_docstring(function) or "")
    ] == []


def test_a_loop_that_is_silent_is_found() -> None:
    text = """
def ask(call):
    while True:
        try:
            return call()
        except Busy:
            pause()
def look(call):
    # Safe to repeat: it only looks.
    while True:
        try:
            return call()
        except Busy:
            pause()
def once(call):
    while True:
        try:
            return call()
        except Busy:
            raise
def each(things):
    for thing in things:
        try:
            thing()
        except Busy:
            continue
"""
    assert silent(text) == ["ask"]
