"""Every test of the state runs on SQLite, and on a real PostgreSQL server of our own where there is one."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import sqlalchemy

if TYPE_CHECKING:  # typeguard must see the package's first import, and pytest reads this file before typeguard starts
    from nixops_proxmox.state import State

_schemas = count(1)


def find_program(name: str) -> str | None:
    """On PATH, or where Debian keeps PostgreSQL's server programs."""
    debian = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))
    return shutil.which(name) or (str(debian[-1]) if debian else None)


def as_other_user() -> list[str]:
    """PostgreSQL refuses to run as root: the argv prefix that makes somebody else of us."""
    if os.getuid() != 0:
        return []
    runuser = shutil.which("runuser")
    if runuser is None:
        pytest.skip("PostgreSQL does not run as root, and there is no runuser")
    return [runuser, "-u", "nobody", "--"]


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """The URL of a private server that listens on a Unix socket only, gone after the tests."""
    initdb, pg_ctl = find_program("initdb"), find_program("pg_ctl")
    if initdb is None or pg_ctl is None:
        pytest.skip("no PostgreSQL server here (initdb, pg_ctl)")
    pytest.importorskip("psycopg")
    prefix = as_other_user()
    # Not pytest's own directory: another user could not enter it; and a socket's path is short.
    root = Path(tempfile.mkdtemp(prefix="pg-"))
    if prefix:
        shutil.chown(root, "nobody")
    data = root / "data"
    run = {"check": True, "capture_output": True, "cwd": root, "timeout": 120}
    quick = f"-k {root} -c listen_addresses='' -c fsync=off -c max_connections=60"
    try:
        init = [initdb, "-D", str(data), "-U", "tester", "-A", "trust", "-E", "UTF8", "--no-sync", "--locale=C"]
        subprocess.run([*prefix, *init], **run)  # type: ignore[call-overload]
        start = [pg_ctl, "-D", str(data), "-w", "-l", str(root / "log"), "-o", quick, "start"]
        subprocess.run([*prefix, *start], **run)  # type: ignore[call-overload]
        yield f"postgresql://tester@/postgres?host={root}"
        stop = [pg_ctl, "-D", str(data), "-w", "-m", "immediate", "stop"]
        subprocess.run([*prefix, *stop], **run)  # type: ignore[call-overload]
    finally:
        shutil.rmtree(root, ignore_errors=True)


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A place for a new state."""
    if request.param == "sqlite":
        return str(tmp_path / "state" / "state.sqlite")
    server: str = request.getfixturevalue("postgres_server")
    schema = f"test{os.getpid()}_{next(_schemas)}"
    engine = sqlalchemy.create_engine(server.replace("postgresql:", "postgresql+psycopg:"))
    with engine.begin() as connection:
        connection.execute(sqlalchemy.text(f"CREATE SCHEMA {schema}"))
    engine.dispose()
    return f"{server}&options=-csearch_path%3D{schema}"


@pytest.fixture
def state(url: str) -> Iterator["State"]:
    from nixops_proxmox.state import open_state

    with open_state(url) as opened:
        yield opened


def start_python(script: str, *arguments: str) -> "subprocess.Popen[str]":
    """A Python of its own that runs `script`."""
    return subprocess.Popen(
        [sys.executable, "-c", script, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=Path(__file__).parents[2],
    )
