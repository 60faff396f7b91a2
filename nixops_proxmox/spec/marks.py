"""What our things say in their comments, on clusters and on routers: whose they are."""


def mark_of(deployment: str, name: str) -> str:
    return f"nixops-proxmox:{deployment}/{name}"


def with_mark(comment: str, mark: str) -> str:
    """A comment that says whose the thing is."""
    return f"{comment} {mark}".lstrip()


def bears_mark(comment: str, mark: str) -> bool:
    return comment == mark or comment.endswith(f" {mark}")


def without_mark(comment: str, mark: str) -> str:
    return comment.removesuffix(mark).strip()
