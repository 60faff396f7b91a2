"""Fetches the image's Debian packages with apt, in a state directory of our own: no root, no change to the host."""

import re
import subprocess
import urllib.parse
from collections.abc import Callable, Iterable
from pathlib import Path

from nixops_proxmox.lab.image import packages


class ImageFailed(Exception):
    """The installer image could not be built; the message says which tool failed and what it said."""


def run(argv: list[str], *, cwd: Path | None = None, stdin: bytes | None = None, timeout: float = 600) -> bytes:
    """Run a tool of the build; raises ImageFailed with the end of what it said."""
    try:
        done = subprocess.run(argv, cwd=cwd, input=stdin, capture_output=True, timeout=timeout, check=False)
    except FileNotFoundError as error:
        raise ImageFailed(f"{argv[0]} is not installed") from error
    except subprocess.TimeoutExpired as error:
        raise ImageFailed(f"{argv[0]} did not finish within {timeout:.0f} s") from error
    if done.returncode != 0:
        said = (done.stderr or done.stdout).decode(errors="replace").strip().splitlines()[-8:]
        raise ImageFailed(f"{' '.join(argv[:4])} failed ({done.returncode}): " + "\n".join(said))
    return done.stdout


def sources_list() -> str:
    """One-line apt sources for the suite the image is built from."""
    signed = f"[signed-by={packages.KEYRING}]" if Path(packages.KEYRING).exists() else ""
    return "".join(
        f"deb {signed} {mirror} {suite} main\n"
        for mirror, suite in (
            (packages.MIRROR, packages.SUITE),
            (packages.MIRROR, f"{packages.SUITE}-updates"),
            (packages.SECURITY_MIRROR, f"{packages.SUITE}-security"),
            (packages.MIRROR, packages.KERNEL_SUITE),
        )
    )


def preferences() -> str:
    """Nothing but the kernel, which is asked for by its suite, and what it needs comes from another suite."""
    return f"Package: *\nPin: release n={packages.KERNEL_SUITE}\nPin-Priority: 100\n"


def apt_argv(state: Path, *words: str) -> list[str]:
    """apt-get that keeps all its state below `state` and believes that nothing is installed."""
    options = {
        "Dir::State": state,
        "Dir::State::lists": state / "lists",
        "Dir::State::status": state / "status",
        "Dir::Cache": state,
        "Dir::Cache::archives": state / "archives",
        "Dir::Etc::sourcelist": state / "sources.list",
        "Dir::Etc::sourceparts": "-",
        "Dir::Etc::preferences": state / "preferences",
        "Dir::Etc::preferencesparts": "-",
        "APT::Architecture": "amd64",
        "APT::Install-Recommends": "false",
        "APT::Sandbox::User": "root",  # downloads go into our own directory, which _apt could not write
        "Acquire::Languages": "none",
        "Acquire::Retries": "3",
    }
    return [
        "apt-get",
        "-q",
        "-y",
        *(word for key, value in options.items() for word in ("-o", f"{key}={value}")),
        *words,
    ]


def parse_uris(printed: str) -> list[str]:
    """File names out of `apt-get --print-uris install`: lines `'URL' NAME SIZE HASH`, an epoch's colon as %3a."""
    return re.findall(r"^'[^']+' (\S+\.deb) \d+", printed, re.MULTILINE)


def keep_packages(files: Iterable[str]) -> list[str]:
    """Without those that only maintainer scripts would need."""
    names = ((file.partition("_")[0], file) for file in files)
    return sorted(
        file
        for name, file in names
        if name not in packages.LEFT_OUT and not name.startswith(packages.LEFT_OUT_PREFIXES)
    )


def exact_version(file: str) -> str:
    """`extlinux_3%3a6.04-1_amd64.deb` → `extlinux=3:6.04-1`, as apt wants to hear it."""
    name, version, _ = file.split("_")
    return f"{name}={urllib.parse.unquote(version)}"


def fetch_debs(state: Path, progress: Callable[[str], None]) -> list[Path]:
    """Download what is missing into `state`/debs; the paths of all packages of the image."""
    for folder in ("lists/partial", "archives/partial", "debs"):
        (state / folder).mkdir(parents=True, exist_ok=True)
    (state / "status").touch()
    (state / "sources.list").write_text(sources_list(), encoding="utf-8")
    (state / "preferences").write_text(preferences(), encoding="utf-8")
    progress("reading Debian's package lists")
    run(apt_argv(state, "update"))
    printed = run(apt_argv(state, "--print-uris", "install", *packages.PACKAGES)).decode()
    wanted = keep_packages(parse_uris(printed))
    missing = [file for file in wanted if not (state / "debs" / file).exists()]
    if missing:
        progress(f"downloading {len(missing)} Debian packages")
        run(apt_argv(state, "download", *map(exact_version, missing)), cwd=state / "debs", timeout=1800)
    return [state / "debs" / file for file in wanted]
