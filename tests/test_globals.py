"""No part of the package keeps anything in the process that a second run in it, or the next test, would find."""

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1] / "nixops_proxmox"
Trees = Mapping[str, ast.Module]

CHANGES = {"add", "append", "appendleft", "clear", "discard", "extend", "insert", "remove", "set", "update"}
TAKES = {"pop", "popitem", "setdefault"}  # these change it even if their answer is used
FROZEN_BASES = {"Enum", "StrEnum", "IntEnum", "NamedTuple", "Protocol", "Exception"}
MEMOS = {"cache", "lru_cache", "functools.cache", "functools.lru_cache"}

ALLOWED = {
    "secrecy.py: KNOWN": "a secret that one part learned comes back in the text of another, which never heard of it",
    "pve/wire/tls.py: sending": "one for each thread: urllib3 hands nothing along to the connection that it opens",
    "lab/tasks.py: FATE": "of one call: a task inherits it from the call that started it",
    "ssh/jump.py: _defaults": "what ssh says without any configuration is the same as long as the process lives",
    "reach/classify.py: _kinds_of": "a memo of a pure function",
}
FILLED_AT_IMPORT = {"Routes"}  # the module that makes one fills it, and nothing does later


def _origins(module: str, tree: ast.Module, trees: Trees) -> dict[str, str]:
    """What a module's top level binds, itself or by an import: the name, and "module: name" of where it is made."""
    found: dict[str, str] = {}
    for node in tree.body:
        match node:
            case ast.Assign(targets=targets):
                found |= {one.id: f"{module}: {one.id}" for one in targets if isinstance(one, ast.Name)}
            case ast.AnnAssign(target=ast.Name(id=name)) | ast.ClassDef(name=name):
                found[name] = f"{module}: {name}"
            case ast.ImportFrom(module=source, names=imported):
                home = (source or "").removeprefix(f"{PACKAGE.name}.").replace(".", "/")
                ours = [one for one in imported if f"{home}/{one.name}.py" not in trees]  # else it is a module
                found |= {one.asname or one.name: f"{home}.py: {one.name}" for one in ours}
            case _:
                pass
    return found


def _functions(tree: ast.Module) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def _locals(function: ast.AST) -> set[str]:
    declared = {name for node in ast.walk(function) if isinstance(node, ast.Global) for name in node.names}
    stored = {node.id for node in ast.walk(function) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    return (stored - declared) | {node.arg for node in ast.walk(function) if isinstance(node, ast.arg)}


def _root(node: ast.expr) -> str:
    """`X` of `X.a[1].b`; empty for what a call returns."""
    while isinstance(node, ast.Attribute | ast.Subscript):
        node = node.value
    return node.id if isinstance(node, ast.Name) else ""


def _written(function: ast.AST) -> Iterator[str]:
    """Names of which a function changes a part, or which it declares global."""
    statements = {id(node.value) for node in ast.walk(function) if isinstance(node, ast.Expr)}
    for node in ast.walk(function):
        match node:
            case ast.Global(names=names):
                yield from names
            case ast.Attribute(ctx=ast.Store() | ast.Del()) | ast.Subscript(ctx=ast.Store() | ast.Del()):
                yield _root(node)
            case ast.Call(func=ast.Attribute(value=value, attr=attr)) if attr in TAKES or (
                attr in CHANGES and id(node) in statements
            ):
                yield _root(value)
            case _:
                pass


def _is_frozen(node: ast.ClassDef) -> bool:
    """It cannot be changed: a frozen dataclass, or one of Python's own such kinds."""
    marks = [ast.unparse(mark) for mark in node.decorator_list]
    bases = {ast.unparse(base).split("[")[0].split(".")[-1] for base in node.bases}
    return any("frozen=True" in mark for mark in marks) or bool(bases & FROZEN_BASES)


def _has_state(node: ast.ClassDef) -> bool:
    """It has an `__init__` that keeps something, or variables of its own."""
    return any(
        isinstance(part, ast.AnnAssign | ast.Assign) or (isinstance(part, ast.FunctionDef) and part.name == "__init__")
        for part in node.body
    )


def _kept(trees: Trees) -> Iterator[str]:
    """Each thing in the package that a call can change, and that outlives the call."""
    nodes = [node for tree in trees.values() for node in ast.walk(tree)]
    classes = [node for node in nodes if isinstance(node, ast.ClassDef)]
    changeable = {node.name for node in classes if not _is_frozen(node) and _has_state(node)}
    made = {place: by for module, tree in trees.items() for place, by in _made(module, tree)}
    yield from (place for place, by in made.items() if by in changeable - FILLED_AT_IMPORT)
    for module, tree in trees.items():
        origins = _origins(module, tree, trees)
        for function in _functions(tree):
            own = _locals(function)
            written = [origins[name] for name in _written(function) if name in origins and name not in own]
            yield from (place for place in written if made.get(place) not in FILLED_AT_IMPORT)
            if any(ast.unparse(mark).split("(")[0] in MEMOS for mark in function.decorator_list):
                yield f"{module}: {function.name}"


def _made(module: str, tree: ast.Module) -> Iterator[tuple[str, str]]:
    """Each name that a module binds to what a call of a class makes, and the class."""
    for node in tree.body:
        match node:
            case ast.Assign(targets=[ast.Name(id=name)], value=ast.Call(func=ast.Name(id=by))):
                yield f"{module}: {name}", by
            case ast.AnnAssign(target=ast.Name(id=name), value=ast.Call(func=ast.Name(id=by))):
                yield f"{module}: {name}", by
            case _:
                pass


def test_nothing_is_kept_in_the_process() -> None:
    trees = {str(path.relative_to(PACKAGE)): ast.parse(path.read_text()) for path in sorted(PACKAGE.rglob("*.py"))}
    lab = {name: tree for name, tree in trees.items() if name.startswith("lab/")}  # names of its own, and no imports
    found = {*_kept(lab), *_kept({name: tree for name, tree in trees.items() if name not in lab})}
    assert found - set(ALLOWED) == set(), "hand one object along, or say above why it must belong to the process"
    assert set(ALLOWED) - found == set(), "the table allows what is not there"


def test_each_way_to_keep_something_is_found() -> None:
    text = """
from other import gate
RUNS: dict[str, int] = {}
class Gate:
    def __init__(self): self.shut = False
class Ours:
    seen: list[int] = []
GATE = Gate()
FLAG = False
def write(): RUNS["a"] = 1
def close(): gate.shut = True
def turn():
    global FLAG
    FLAG = True
def see(): Ours.seen.append(1)
@cache
def ask(): ...
def fine():
    RUNS = {}
    RUNS["a"] = 1
"""
    found = set(_kept({"a.py": ast.parse(text)}))
    assert found == {f"a.py: {name}" for name in ("RUNS", "GATE", "FLAG", "Ours", "ask")} | {"other.py: gate"}
