"""How `install.image` names an image: a volume of a storage, a file here, or a file of the node."""

import re

ON_NODE = "node:/"  # before the path of a file of the node, which PVE takes from root@pam alone
_VOLUME = re.compile(r"[A-Za-z][A-Za-z0-9._-]*:(?!/)")


def is_file_here(image: str | None) -> bool:
    """A file of this computer, which is put on a storage before a machine is made of it."""
    return image is not None and not image.startswith(ON_NODE) and not _VOLUME.match(image)


def as_imported(image: str) -> str:
    """As PVE's `import-from` takes it."""
    return image.removeprefix(ON_NODE.rstrip("/"))
