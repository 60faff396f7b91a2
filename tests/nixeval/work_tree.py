"""A work tree of flakes: one at its top and another in `sub`, with a secret that git is told to ignore."""

import subprocess
from pathlib import Path

SECRET = "the-secret-of-this-test"


def plant(folder: Path, flake: str) -> None:
    """`flake`: its text, in which PLACE says which one it is."""
    (folder / "sub" / "deep").mkdir(parents=True)
    write_flake(folder, flake, "clean")
    write_flake(folder / "sub", flake, "sub")
    (folder / ".gitignore").write_text("*.key\n")
    (folder / "secret.key").write_text(SECRET)


def write_flake(folder: Path, flake: str, place: str) -> None:
    (folder / "flake.nix").write_text(flake.replace("PLACE", place))


def git(folder: Path, *words: str) -> None:
    who = ["-c", "user.name=x", "-c", "user.email=x@example.org", "-c", "protocol.file.allow=always"]
    subprocess.run(["git", *who, *words], cwd=folder, check=True, capture_output=True)


def commit_all(folder: Path) -> None:
    git(folder, "init", "-q", ".")
    git(folder, "add", "-A")
    git(folder, "commit", "-qm", "x")
