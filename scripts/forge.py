"""The demo's second story: a forge on six machines, with real daemons.

A commit is pushed and tested, the web machine is installed again, and the database's machine is destroyed and made
again around the volume that has its data.
"""

import os
import secrets
import shlex
import subprocess
from pathlib import Path
from urllib.parse import quote

from daemons import get_daemons
from forge_packages import PARTS
from stage import LAB, ROOT, Demo, DemoFailed, history, machine_spans, require, say, tool_argv

NETWORK = ROOT / "examples" / "forge" / "lab" / "network.nix"
MACHINES = ("web", "git", "ci", "notify", "db", "cache")
FORGE = "http://10.77.0.31"  # the web machine, which all requests go to
CLONE_URL = f"{FORGE}/git/hello.git"
USER = "me"
AS_ROOT = "PostgreSQL refuses to run as root, and only root's lab has other users"
BATCH = "3"  # machines at once: more take longer on two cores without KVM
ROWS = "psql-forge --command 'table pushes' --command 'select repository, commit, outcome from builds'"
COUNT = "select count(*) from pushes p join builds b using (repository, commit) where b.outcome = 'passed'"


def run(demo: Demo) -> None:
    with demo.part("Get the daemons, and make up passwords"):
        demo.environment["DEMO_PACKAGES"] = str(get_daemons(PARTS, demo.guests, as_root=AS_ROOT))
        demo.environment["FORGE_SECRETS"] = str(make_secrets(demo.scratch / "secrets"))
    with demo.part("Start the lab"):
        demo.tool("lab", "up", f"--{demo.guests}")
    with demo.part("Deploy the six machines"):
        deploy(demo)
        demo.fetch(f"{FORGE}/", "nothing was pushed yet")
    with demo.part("Push a commit over HTTP, through the proxy"):
        source = make_repository(demo)
        first = commit(demo, source, "Say hello", "echo hello")
        push(demo, source, CLONE_URL)
    with demo.part("It is in the database, was tested, and the notifier has said so"):
        see(demo, first, "Say hello", "passed")
        show_rows(demo)
    with demo.part("Push another over SSH: its test fails"):
        second = commit(demo, source, "Break it", "exit 1")
        push(demo, source, "ssh://root@git/var/lib/git/hello.git", over_ssh(demo))
        see(demo, second, "Break it", "failed")
    with demo.part("Install the web machine again"):
        mark(demo, "web")
        demo.tool("reinstall", "web", "--yes", *demo.network, *LAB)
        see(demo, second, "Break it", "failed")
        require(not is_marked(demo, "web"), "the web machine has its old disk")
    with demo.part("Destroy the database's machine: its volume stays"):
        mark(demo, "db")
        demo.tool("destroy", "db", "--yes", *demo.network, *LAB)
        demo.tool("volume", "list", *demo.network, *LAB)
        demo.fetch(f"{FORGE}/", "the database does not answer")
    with demo.part("Make it again: the data is there"):
        deploy(demo)
        see(demo, first, "Say hello", "passed")
        require(not is_marked(demo, "db"), "the database's machine has its old disk")
        show_rows(demo)
    with demo.part("Push a third commit"):
        third = commit(demo, source, "Repair it", "echo repaired")
        push(demo, source, CLONE_URL)
        see(demo, third, "Repair it", "passed")
        rows = demo.on("db", f"psql-forge --tuples-only --no-align --command {shlex.quote(COUNT)}")
        say(rows)
        require(rows == "2", f"two commits passed their tests, and the database knows of {rows!r}")
    demo.spans += machine_spans(history(demo), MACHINES)
    demo.end(("volume", "delete", "db-data", "--confirm", "db-data"))


def make_secrets(folder: Path) -> Path:
    """Passwords of the database and the cache, and of who may push: as files that only their owner reads."""
    folder.mkdir(mode=0o700)
    password = secrets.token_urlsafe(18)
    texts = {
        "db": secrets.token_urlsafe(18),
        "cache": secrets.token_urlsafe(18),
        "pushers": f"{USER}:{{PLAIN}}{password}\n",
        "credentials": f"{FORGE.replace('//', f'//{USER}:{quote(password)}@')}\n",  # as git keeps them
    }
    for name, text in texts.items():
        (folder / name).touch(mode=0o600)
        (folder / name).write_text(text, encoding="utf-8")
    return folder


def deploy(demo: Demo) -> None:
    demo.tool("deploy", "--jobs", BATCH, *demo.network, *LAB)


def mark(demo: Demo, machine: str) -> None:
    """A file on the disk of its system, by which we see later whether it is the same disk."""
    demo.on(machine, "echo before >/etc/marked && sync")


def is_marked(demo: Demo, machine: str) -> bool:
    return demo.on(machine, "if [ -e /etc/marked ]; then echo yes; else echo no; fi") == "yes"


def show_rows(demo: Demo) -> None:
    say(demo.on("db", "psql-forge --command 'table pushes' --command 'select repository, commit, outcome from builds'"))


# The person who works with the forge.


def git(demo: Demo, folder: Path, *words: str, env: dict[str, str] | None = None) -> str:
    """git in the lab's network, with settings of its own."""
    settings = {
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_AUTHOR_NAME": USER,
        "GIT_AUTHOR_EMAIL": "me@example.org",
        "GIT_COMMITTER_NAME": USER,
        "GIT_COMMITTER_EMAIL": "me@example.org",
    }
    store = f"credential.helper=store --file={demo.environment['FORGE_SECRETS']}/credentials"
    argv = ["git", "-C", str(folder), "-c", store, *words]
    if words[0] in ("push", "clone"):
        say(f"$ nixops-proxmox lab exec -- git {shlex.join(words)}")
        argv = tool_argv("lab", "exec", "--", *argv)
    done = subprocess.run(
        argv,
        env={**demo.environment, **settings, **(env or {})},
        check=False,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=120,
    )
    if done.returncode != 0:
        raise DemoFailed(f"git {shlex.join(words)} ended with status {done.returncode}:\n{done.stdout}")
    return done.stdout


def make_repository(demo: Demo) -> Path:
    folder = demo.scratch / "hello"
    folder.mkdir()
    git(demo, folder, "init", "--quiet", "--initial-branch", "main")
    return folder


def commit(demo: Demo, folder: Path, subject: str, test: str) -> str:
    """A commit whose test is this script; its ID as the forge shows it."""
    (folder / "test.sh").write_text(f"{test}\n", encoding="utf-8")
    git(demo, folder, "add", "test.sh")
    git(demo, folder, "commit", "--quiet", "--message", subject)
    return git(demo, folder, "rev-parse", "HEAD").strip()[:8]


def push(demo: Demo, folder: Path, url: str, env: dict[str, str] | None = None) -> None:
    said = git(demo, folder, "push", url, "main", env=env)
    say(said.strip())
    require("the forge has recorded" in said, "the forge did not say that it recorded the push")


def over_ssh(demo: Demo) -> dict[str, str]:
    """git's SSH with what `export ssh-config` writes."""
    file = demo.scratch / "ssh-config"
    demo.tool("export", *demo.network, "ssh-config", "--out", str(file))
    return {"GIT_SSH_COMMAND": f"ssh -F {shlex.quote(os.fspath(file))}"}


def see(demo: Demo, commit_id: str, subject: str, outcome: str) -> None:
    """Until the page, which is made of the database, and the notifier's mailbox both know how the commit did."""
    line, notice = f"hello {commit_id} {subject}: {outcome}", f"Subject: hello {commit_id} {outcome}"
    demo.fetch_until(f"{FORGE}/", lambda answer: line in answer, f"with {line!r}")
    demo.fetch_until(f"{FORGE}/notices", lambda answer: notice in answer, f"with {notice!r}")
