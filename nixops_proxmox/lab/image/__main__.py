"""`python -m nixops_proxmox.lab.image [CACHE]`: build the installer image and print where it is."""

import sys
from pathlib import Path

from nixops_proxmox.lab.image import ImageFailed, build_image, default_cache


def main(arguments: list[str]) -> int:
    cache = Path(arguments[0]) if arguments else default_cache()
    try:
        image = build_image(cache, lambda line: print(line, file=sys.stderr))  # noqa: T201
    except ImageFailed as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201
        return 1
    print(image.iso)  # noqa: T201
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
