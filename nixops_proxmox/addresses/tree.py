"""A list that is in a git work tree: which command commits the change. We neither commit nor push."""

import shlex
from collections.abc import Sequence
from pathlib import Path


def commit_command(path: Path, words: Sequence[str]) -> str:
    """The command, or empty if the file is in no work tree. `words`: what was taken or given back, for the message."""
    file = path.resolve()
    tree = next((folder for folder in file.parents if (folder / ".git").exists()), None)
    if tree is None:
        return ""
    message = f"{file.name}: {', '.join(words)}"
    return shlex.join(["git", "-C", str(tree), "commit", "-m", message, "--", str(file.relative_to(tree))])
