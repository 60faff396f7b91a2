"""Looks in a flake's own files for what an impure evaluation would answer in another way, without failing."""

import re
from collections.abc import Iterator
from pathlib import Path

MOST = 64 << 20  # bytes of a flake; larger ones are not looked through
# Pure evaluation fails for other files, for what is fetched without a hash and for <nixpkgs>. What stands here, it
# answers: the environment is empty, a file elsewhere is not there, and some of the builtins do not exist.
_WORDS = re.compile(
    rb"getEnv|currentTime|currentSystem|nixPath|storePath|inPureEvalMode|inNixShell|pathIs|pathType"
    rb"|pathExists(?!\s*\(?\s*\.\.?/)"  # of a path in the flake itself
    rb"|(?<!with )(?<!inherit \()builtins(?!\s*\.\s*[A-Za-z])"  # as a set, of which anything can be asked
)


def find_doubt(tree: Path) -> str:
    """Why the flake's files may mean something else in pure evaluation. Empty: they mean the same. Comments count."""
    try:
        return next(_doubts(tree), "")
    except OSError as error:
        return f"its files cannot be read: {error.strerror}"


def _doubts(tree: Path) -> Iterator[str]:
    size = 0
    for file in sorted(tree.rglob("*")):
        if file.is_symlink() or not file.is_file() or file.suffix == ".md":
            continue
        data = file.read_bytes()
        size += len(data)
        if size > MOST:
            yield f"it has more than {MOST >> 20} MiB"
        is_text = file.suffix == ".nix" or b"\0" not in data
        found = _WORDS.search(data) if is_text else None
        if found:
            yield f"{file.relative_to(tree)} has the word {found[0].decode(errors='replace')}"
