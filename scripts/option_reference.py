"""Writes docs/options.md and docs/gateway-options.md from the NixOS modules' own declarations, which Nix reads; with
--check it only compares."""

import argparse
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
TIMEOUT = 60.0  # seconds

HEAD = """\
# Options below `deployment.proxmox`

<!-- Written by scripts/option_reference.py from nix/options.nix and nix/guest.nix; do not edit. -->

If you do not set an option, PVE's default stays, or what an administrator has set. `disks[].size` is the size of each
disk. Write `deployment.proxmox.disks = [ { size = "32G"; … } ];` or, by slot,
`deployment.proxmox.disks.scsi0.size = "32G";`. The names of `network[]` work in the same way. You can also use the
original plugin's names.
"""

GATEWAY_HEAD = """\
# Options below `services.nixops-proxmox.gateway`

<!-- Written by scripts/option_reference.py from nix/gateway.nix; do not edit. -->

See [Gateways](gateway.md). `[]` stands for the name of an entry: `web[].to` is `web."www.example.org".to`.
"""

Tree = Mapping[str, Any]


def read_options(lib: str = "null", *, gateway: bool = False) -> Tree:
    """What nix/reference.nix says, with the `lib` in that folder; raises RuntimeError with Nix's words."""
    expression = str(ROOT / "nix" / "reference.nix")
    argv = ["nix-instantiate", "--eval", "--strict", "--json", expression, "--arg", "lib", lib]
    argv += ["--arg", "gateway", json.dumps(gateway)]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=TIMEOUT, check=False)
    if done.returncode != 0:
        raise RuntimeError(done.stderr.strip())
    tree: Tree = json.loads(done.stdout)
    return tree


def render(tree: Tree, head: str = HEAD) -> str:
    """The reference: an entry for every option that is shown, in alphabetical order within its section."""
    return head + "".join(f"\n{entry}" for entry in _entries(tree, ""))


def type_text(kind: Mapping[str, Any]) -> str:
    """A type as people say it."""
    match kind:
        case {"null": inner}:
            return f"{type_text(inner)}, or null"
        case {"list": inner}:
            return f"list of ({type_text(inner)})" if _is_compound(inner) else f"list of {type_text(inner)}"
        case {"attrs": inner}:
            return f"set of ({type_text(inner)})" if _is_compound(inner) else f"set of {type_text(inner)}"
        case {"either": [left, right]}:
            return f"{type_text(left)} or {type_text(right)}"
        case {"enum": values}:
            return "one of " + ", ".join(f"`{json.dumps(value)}`" for value in values)
        case {"submodule": _}:
            return "the options below"
        case {"description": text}:
            return str(text)
    names = {"str": "string", "bool": "boolean", "int": "integer", "path": "path", "separatedString": "string of lines"}
    names |= {
        "float": "floating-point number",
        "unsignedInt": "integer from 0 on",
        "unsignedInt16": "port",
        "raw": "anything",
        "anything": "anything",
    }
    return names[kind["name"]]


def nix_text(value: object, indent: str = "") -> str:
    """A value as Nix writes it."""
    match value:
        case bool() | None:
            return json.dumps(value)
        case str():
            return json.dumps(value, ensure_ascii=False).replace("${", "\\${")
        case list():
            return "[ " + "".join(f"{_item(item)} " for item in value) + "]"
        case dict():
            return "{ " + "".join(f"{name} = {nix_text(item)}; " for name, item in value.items()) + "}"
    return f"{indent}{value}"


def _item(value: object) -> str:
    text = nix_text(value)
    return f"({text})" if isinstance(value, int) and not isinstance(value, bool) and value < 0 else text


def _is_compound(kind: Mapping[str, Any]) -> bool:
    return "either" in kind or "null" in kind or "enum" in kind


def _entries(tree: Tree, prefix: str) -> Iterator[str]:
    for name, option in sorted(tree.items()):
        path = f"{prefix}{name}"
        if "group" in option:
            yield from _entries(option["group"], f"{path}.")
        elif option["visible"] is not False:
            yield _entry(path, option)
            inner, mark = _inner(option["type"], "")
            if inner is not None:
                yield from _entries(inner, f"{path}{mark}.")


def _inner(kind: Mapping[str, Any], mark: str) -> tuple[Tree | None, str]:
    """The options of the entries of a list or set, or of a set itself; `mark` stands for the entry."""
    match kind:
        case {"submodule": tree}:
            return tree, mark
        case {"null": inner}:
            return _inner(inner, mark)
        case {"list": inner} | {"attrs": inner}:
            return _inner(inner, "[]")
        case {"either": [left, right]}:
            found = _inner(left, mark)
            return found if found[0] is not None else _inner(right, mark)
    return None, mark


def _entry(path: str, option: Mapping[str, Any]) -> str:
    lines = [f"## `{path}`", ""]
    if option["description"]:
        lines += [option["description"].strip(), ""]
    lines.append(f"- Type: {type_text(option['type'])}")
    default = option.get("default")
    if "default" not in option and "submodule" not in option["type"]:
        if option["type"].get("attrs") is None or path != "guest.devices":
            lines.append("- Must be set")
    elif default is not None and default != {}:
        text = default if path.startswith("guest.") and isinstance(default, str) else nix_text(default)
        lines.append(f"- Default: `{text}`")
    if "example" in option:
        lines.append(f"- Example: `{nix_text(option['example'])}`")
    return "\n".join(lines) + "\n"


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description="Writes docs/options.md and docs/gateway-options.md.")
    parser.add_argument("--check", action="store_true", help="write nothing; fail if it is out of date")
    check = parser.parse_args(arguments).check
    if shutil.which("nix-instantiate") is None:
        sys.stderr.write("docs/options.md: passed over, for there is no Nix\n")
        return 0
    pages = {
        "options.md": render(read_options()),
        "gateway-options.md": render(read_options(gateway=True), GATEWAY_HEAD),
    }
    outdated = [name for name, want in pages.items() if _read(name) != want]
    for name in outdated:
        if check:
            sys.stderr.write(f"docs/{name} is out of date: run `python scripts/option_reference.py`\n")
        else:
            (ROOT / "docs" / name).write_text(pages[name], encoding="utf-8")
            sys.stderr.write(f"wrote docs/{name}\n")
    return 1 if check and outdated else 0


def _read(name: str) -> str:
    path = ROOT / "docs" / name
    return path.read_text(encoding="utf-8") if path.exists() else ""


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
