"""NixOps's own statements about a machine, behind the gate that a signal shuts (see `gate.py`)."""

import sqlite3
from typing import Any, NoReturn

from nixops_proxmox.nixops2.errors import ProxmoxError
from nixops_proxmox.nixops2.gate import unwritable
from nixops_proxmox.nixops2.session import StateSession, session_of


class Gated:
    """Beside NixOps's `ResourceState`: each of its statements takes the gate. The database's own lock comes first, for
    the main thread may hold it when the signal comes. So a thread that is inside of the gate never waits."""

    depl: Any

    @property
    def _session(self) -> StateSession:
        return session_of(self.depl._statefile)

    def _set_attrs(self, attrs: dict[str, Any]) -> None:
        try:
            with self._session.gate.into(self.depl._db):
                super()._set_attrs(attrs)  # type: ignore[misc]
        except sqlite3.OperationalError as error:
            self._refuse(error)

    def _refuse(self, error: sqlite3.OperationalError) -> NoReturn:
        file = self.depl._db.execute("pragma database_list").fetchone()[2]
        raise ProxmoxError(unwritable(file, error)) from error

    def _del_attr(self, name: str) -> None:
        with self._session.gate.into(self.depl._db):
            super()._del_attr(name)  # type: ignore[misc]

    def _get_attr(self, *what: Any) -> Any:
        with self._session.gate.into(self.depl._db):
            return super()._get_attr(*what)  # type: ignore[misc]

    def export(self) -> dict[str, Any]:
        with self._session.gate.into(self.depl._db):
            exported: dict[str, Any] = super().export()  # type: ignore[misc]
            return exported

    def _title(self) -> str:
        """What the deployment is called."""
        with self._session.gate.into(self.depl._db):
            return str(self.depl.name or self.depl.uuid)
