"""Brings a database of any earlier version to today's tables, in one transaction. Refuses a later version.

Alembic is not used, because every earlier version of the tool refuses a newer record by the number in `schema_version`.
That number would have to be kept beside Alembic's own table, and the few migrations would stay as SQL all the same.
"""

from collections.abc import Callable, Sequence

from sqlalchemy import Connection, inspect, select, text

from nixops_proxmox.errors import StateError, StateTooNew
from nixops_proxmox.state.cells import as_number
from nixops_proxmox.state.schema import metadata, schema_version

Migration = Callable[[Connection], None]


def lease_machines(connection: Connection) -> None:
    """A lease may be of one machine. Leases do not outlive runs, so none is carried over. A run that holds one is told
    that it lost it."""
    connection.execute(text("DROP TABLE leases"))
    connection.execute(
        text(
            "CREATE TABLE leases (deployment_id INTEGER NOT NULL REFERENCES deployments (id), "
            "machine VARCHAR(255) NOT NULL, token VARCHAR(64) NOT NULL, holder JSON NOT NULL, "
            "since DOUBLE PRECISION NOT NULL, heartbeat DOUBLE PRECISION NOT NULL, "
            "PRIMARY KEY (deployment_id, machine))"
        )
    )


def files_of_others(connection: Connection) -> None:
    """Whole files of other programs, such as NixOps's state, and the locks on them."""
    binary = "BYTEA" if connection.dialect.name == "postgresql" else "BLOB"
    connection.execute(
        text(
            "CREATE TABLE IF NOT EXISTS blobs (name VARCHAR(255) NOT NULL PRIMARY KEY, version INTEGER NOT NULL, "
            f"content {binary} NOT NULL, sha256 VARCHAR(64) NOT NULL, written DOUBLE PRECISION NOT NULL)"
        )
    )
    connection.execute(
        text(
            "CREATE TABLE IF NOT EXISTS locks (name VARCHAR(255) NOT NULL PRIMARY KEY, token VARCHAR(64) NOT NULL, "
            "holder JSON NOT NULL, purpose TEXT NOT NULL, since DOUBLE PRECISION NOT NULL)"
        )
    )


def things_of_any_kind(connection: Connection) -> None:
    """What was a machine's is a thing's, of the kind `machine`."""
    double = "DOUBLE PRECISION" if connection.dialect.name == "postgresql" else "DOUBLE"
    for statement in (
        "CREATE TABLE things (deployment_id INTEGER NOT NULL REFERENCES deployments (id), kind VARCHAR(32) NOT NULL, "
        "name VARCHAR(255) NOT NULL, phase VARCHAR(32) NOT NULL, facts JSON NOT NULL, "
        f"changed {double} NOT NULL, PRIMARY KEY (deployment_id, kind, name))",
        "INSERT INTO things (deployment_id, kind, name, phase, facts, changed) "
        "SELECT deployment_id, 'machine', name, phase, facts, changed FROM machines",
        "DROP TABLE machines",
        "ALTER TABLE journal ADD COLUMN kind VARCHAR(32) NOT NULL DEFAULT 'machine'",
        "DROP INDEX journal_by_machine",
        "ALTER TABLE journal RENAME COLUMN machine TO name",
        "CREATE INDEX journal_by_thing ON journal (deployment_id, kind, name, id)",
    ):
        connection.execute(text(statement))


def lease_things(connection: Connection) -> None:
    """A lease may be of one thing of any kind. Leases do not outlive runs, so none is carried over. A run of an earlier
    version that holds one cannot look at it any more, and stops before its next effect."""
    double = "DOUBLE PRECISION" if connection.dialect.name == "postgresql" else "DOUBLE"
    connection.execute(text("DROP TABLE leases"))
    connection.execute(
        text(
            "CREATE TABLE leases (deployment_id INTEGER NOT NULL REFERENCES deployments (id), "
            "kind VARCHAR(32) NOT NULL, name VARCHAR(255) NOT NULL, token VARCHAR(64) NOT NULL, holder JSON NOT NULL, "
            f"since {double} NOT NULL, heartbeat {double} NOT NULL, PRIMARY KEY (deployment_id, kind, name))"
        )
    )


# MIGRATIONS[n] leads from version n + 1 to n + 2, and a new file is of the version they all lead to. They spell their
# statements out: `schema` moves on, they do not.
MIGRATIONS: Sequence[Migration] = (lease_machines, files_of_others, things_of_any_kind, lease_things)

_ADVISORY_LOCK = 0x6E_78_70_6D  # any number that only we use: "nxpm"


def find_version(connection: Connection) -> int | None:
    """The version the database was written by. None: it is empty."""
    if not inspect(connection).has_table(schema_version.name):
        return None
    found = connection.execute(select(schema_version.c.version)).scalar_one_or_none()
    if found is None:
        raise StateError("the state database has lost its version", hint="restore it from a backup")
    return as_number(found, "the version of its tables")


def is_current(connection: Connection, migrations: Sequence[Migration] = MIGRATIONS) -> bool:
    """Are the tables today's? Raises StateTooNew for those of a later version."""
    found = find_version(connection)
    newest = len(migrations) + 1
    if found is not None and found > newest:
        raise StateTooNew(
            f"the state was written by a newer version (its tables are version {found}, ours {newest})",
            hint="upgrade nixops-proxmox to at least the version that wrote the state",
        )
    return found == newest


def migrate(connection: Connection, migrations: Sequence[Migration] = MIGRATIONS) -> None:
    """Make the tables today's. `connection` is in a transaction that excludes other writers' migrations."""
    if connection.dialect.name == "postgresql":
        # CREATE TABLE IF NOT EXISTS of two sessions at once fails there on the catalogue's own unique index.
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _ADVISORY_LOCK})
    if is_current(connection, migrations):
        return
    newest = len(migrations) + 1
    found = find_version(connection)
    if found is None:
        metadata.create_all(connection)
        connection.execute(schema_version.insert().values(version=newest))
        return
    for migration in migrations[found - 1 :]:
        migration(connection)
    connection.execute(schema_version.update().values(version=newest))
