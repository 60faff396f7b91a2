"""Commands and jobs in one guest over one SSH connection, opened when needed. Satisfies `kinds.machine.ports.Shell`."""

from collections.abc import Callable
from threading import RLock
from types import TracebackType
from typing import TYPE_CHECKING, Self

from nixops_proxmox.errors import SshUnreachable
from nixops_proxmox.model import Completed, Endpoint, Job
from nixops_proxmox.ssh import jobs
from nixops_proxmox.ssh.login import SshLogin

if TYPE_CHECKING:
    from nixops_proxmox.ssh.session import Session


def _open_session(login: SshLogin) -> "Session":
    from nixops_proxmox.ssh.session import open_session

    return open_session(login)


class SshShell:
    """Keeps one connection. A dead one is replaced before the next command, never in the middle of one."""

    def __init__(
        self,
        login: SshLogin,
        *,
        connect: "Callable[[SshLogin], Session]" = _open_session,
        job_directory: str = jobs.DIRECTORY,
        may_act: Callable[[], None] = lambda: None,
    ) -> None:
        """`may_act` is asked right before each script leaves. What it raises ends the command."""
        self._may_act = may_act
        self._login = login
        self._connect = connect
        self._job_directory = job_directory
        self._session: Session | None = None
        self._lock = RLock()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def endpoint(self) -> Endpoint:
        return self._login.endpoint

    @property
    def login(self) -> SshLogin:
        return self._login

    def ensure_open(self) -> None:
        """Log in now. Raises SshUnreachable, HostKeyChanged, SshRefused."""
        with self._lock:
            self._alive()

    def run(self, script: str, *, stdin: bytes = b"", timeout: float = 60) -> Completed:
        """Run a `/bin/sh` script. Raises ConnectionLost if it broke on the way, SshUnreachable if nothing was sent."""
        with self._lock:
            used_before = self._session is not None
            try:
                return self._alive().run(script, stdin=stdin, timeout=timeout, may_act=self._may_act)
            except SshUnreachable:
                if not used_before:
                    raise
            # nothing was sent by the dead one
            return self._alive().run(script, stdin=stdin, timeout=timeout, may_act=self._may_act)

    def start_job(self, name: str, script: str) -> None:
        """Start a detached job, unless one of that name exists, running or done."""
        jobs.start_job(self.run, name, script, self._job_directory)

    def find_job(self, name: str) -> Job:
        return jobs.find_job(self.run, name, self._job_directory)

    def discard_job(self, name: str) -> None:
        """Set the record of a job that is not running aside, so that the name can be started again."""
        jobs.discard_job(self.run, name, self._job_directory)

    def wait_for_job(self, name: str, *, timeout: float, tell: Callable[[str], None]) -> Job:
        """Wait until the job has ended. Reconnects by itself. `tell` gets the log's last line when it changes."""
        return jobs.wait_for_job(self.run, name, timeout=timeout, tell=tell, directory=self._job_directory)

    def close(self) -> None:
        with self._lock:
            if self._session is not None:
                self._session.close()
                self._session = None

    def _alive(self) -> "Session":
        if self._session is not None and not self._session.is_alive:
            self.close()
        if self._session is None:
            self._session = self._connect(self._login)
        return self._session
