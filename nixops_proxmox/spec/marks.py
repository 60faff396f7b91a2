"""What our things say in their comments, on clusters and on routers: whose they are."""

import re

_MARKED = re.compile(r"(?:^| )nixops-proxmox:(\S+/\S+)$")


def mark_of(deployment: str, name: str) -> str:
    return f"nixops-proxmox:{deployment}/{name}"


def with_mark(comment: str, mark: str) -> str:
    """A comment that says whose the thing is."""
    return f"{comment} {mark}".lstrip()


def bears_mark(comment: str, mark: str) -> bool:
    return comment == mark or comment.endswith(f" {mark}")


def owner_in(comment: str) -> str:
    """Whose mark it is, ours or another deployment's; empty: it has none."""
    found = _MARKED.search(comment)
    return found[1] if found else ""


def is_marked(comment: str) -> bool:
    return bool(owner_in(comment))


def without_mark(comment: str, mark: str) -> str:
    return comment.removesuffix(mark).strip()
