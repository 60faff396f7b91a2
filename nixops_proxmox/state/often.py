"""Statements that a fleet makes many times for each machine. SQLAlchemy takes several times as long to say one of them
as SQLite to do it, so SQLite is told the same text without it."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Delete, Engine, Insert, Select, Update
from sqlalchemy.dialects import sqlite

from nixops_proxmox.state.database import OneWriterPool, reading, translated

Statement = Select[Any] | Insert | Update | Delete


@dataclass(frozen=True, eq=False)
class Often:
    """One statement, with a name for each of its values: SQLite reads such names as SQLAlchemy writes them."""

    statement: Statement
    text: str  # the same, for SQLite

    def rows(self, connection: Connection, values: Mapping[str, Any]) -> list[Any]:
        """What it answers. An object in there is JSON on SQLite."""
        if connection.dialect.name != "sqlite":
            return list(connection.execute(self.statement, dict(values)))
        return list(self._say(connection.connection.dbapi_connection, values))

    def count(self, connection: Connection, values: Mapping[str, Any]) -> int:
        """How many rows it has changed."""
        if connection.dialect.name != "sqlite":
            return connection.execute(self.statement, dict(values)).rowcount
        return int(self._say(connection.connection.dbapi_connection, values).rowcount)

    def look(self, engine: Engine, values: Mapping[str, Any]) -> list[Any]:
        """What it answers now, outside of a transaction of ours."""
        if not isinstance(engine.pool, OneWriterPool):
            with reading(engine) as connection:
                return self.rows(connection, values)
        with translated(engine):
            lent = engine.raw_connection()
            try:
                return list(self._say(lent.dbapi_connection, values))
            finally:
                lent.close()

    def _say(self, lent: Any, values: Mapping[str, Any]) -> Any:
        return lent.execute(self.text, {name: _written(value) for name, value in values.items()})


def often(statement: Statement) -> Often:
    return Often(statement, str(statement.compile(dialect=sqlite.dialect(paramstyle="named"))))


def _written(value: Any) -> Any:
    """As the type JSON of SQLAlchemy writes it."""
    return json.dumps(value) if isinstance(value, dict | list) else value
