"""What the program's errors say, and their hints, read from its code: a page that people search by a message."""

import ast
import inspect
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1] / "nixops_proxmox"
PROGRAM = "nixops-proxmox"
GAP = "…"  # stands for what is known only at run time


@dataclass(frozen=True)
class Hint:
    """One place in the code that raises an error with a hint. `verbs`: the commands that the hint names."""

    family: str  # the error's class
    message: str
    text: str
    verbs: tuple[str, ...]
    place: str


def find_hints(package: Path = PACKAGE) -> list[Hint]:
    """All of them, by family and message. The lab's own errors are about the lab, and left out."""
    families, found = error_classes(), []
    for path in sorted(package.rglob("*.py")):
        if "lab" in path.relative_to(package).parts:
            continue
        tree = ast.parse(path.read_text(encoding="utf-8"))
        names, texts = constants(tree), functions(tree)
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and (hint := _hint_of(node, families, names, texts)) is not None:
                place = f"{path.relative_to(package.parent)}:{node.lineno}"
                found.append(Hint(*hint, place=place))
    return sorted(dict.fromkeys(found), key=lambda one: (one.family, one.message, one.text))


def error_classes() -> Mapping[str, type]:
    from nixops_proxmox import errors

    return {
        name: one for name, one in inspect.getmembers(errors, inspect.isclass) if issubclass(one, errors.DeployError)
    }


def constants(tree: ast.Module) -> dict[str, str]:
    """The texts that a module gives names to."""
    return {
        target.id: node.value.value
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        for target in node.targets
        if isinstance(target, ast.Name)
    }


def functions(tree: ast.Module) -> dict[str, ast.expr]:
    """The texts that functions of a module return, which do nothing else."""
    found = {}
    for node in tree.body:
        match node:
            case ast.FunctionDef(name=name, body=[*_, ast.Return(value=ast.expr() as value)]):
                found[name] = value
    return found


def _hint_of(
    call: ast.Call, families: Mapping[str, type], names: Mapping[str, str], texts: Mapping[str, ast.expr]
) -> tuple[str, str, str, tuple[str, ...]] | None:
    name = (
        call.func.id
        if isinstance(call.func, ast.Name)
        else call.func.attr
        if isinstance(call.func, ast.Attribute)
        else ""
    )
    hint = next((word.value for word in call.keywords if word.arg == "hint"), None)
    if name not in families or hint is None or not call.args:
        return None
    hint, message = _returned(hint, texts), _returned(call.args[0], texts)
    verbs = tuple(dict.fromkeys(_verbs(hint)))
    text = as_text(hint, names)
    return None if not text.strip(f" {GAP}") else (name, as_text(message, names), text, verbs)


def _returned(node: ast.expr, texts: Mapping[str, ast.expr]) -> ast.expr:
    match node:
        case ast.Call(func=ast.Name(id=name)) if name in texts:
            return texts[name]
    return node


def as_text(node: ast.expr, names: Mapping[str, str]) -> str:
    """A text as the code builds it, with a gap for what it does not know."""
    match node:
        case ast.Constant(value=str(text)):
            found = text
        case ast.JoinedStr(values=parts):
            found = "".join(as_text(part, names) for part in parts)
        case ast.FormattedValue(value=value):
            found = as_text(value, names)
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            found = as_text(left, names) + as_text(right, names)
        case ast.IfExp(body=one):
            found = as_text(one, names)
        case ast.Call(func=ast.Name(id="command"), args=[ast.Attribute(attr=verb), *words]):
            rest = "".join(f" {as_text(word, names)}" for word in words)
            found = f"`{PROGRAM} {verb.lower().replace('_', ' ')}{rest}`"
        case ast.Name(id=name) if name in names:
            found = names[name]
        case _:
            found = GAP
    return re.sub(rf"(?:{GAP})+", GAP, found)


def _verbs(node: ast.expr) -> Iterator[str]:
    """The verbs that `command(Verb.X)` names in the hint."""
    for inner in ast.walk(node):
        match inner:
            case ast.Call(func=ast.Name(id="command"), args=[ast.Attribute(attr=verb), *_]):
                yield verb.lower().replace("_", "-")
