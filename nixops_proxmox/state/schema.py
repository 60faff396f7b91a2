"""The tables of the state, for SQLite and PostgreSQL alike."""

from sqlalchemy import JSON, Column, Double, ForeignKey, Index, Integer, LargeBinary, MetaData, String, Table, Text

metadata = MetaData()

schema_version = Table("schema_version", metadata, Column("version", Integer, nullable=False))

deployments = Table(
    "deployments",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("name", String(255), nullable=False, unique=True),
    Column("created", Double, nullable=False),  # all times are seconds since the epoch
)

# One table for things of every kind: phase and facts are all that the record needs to know of any of them, and a kind
# that somebody else wrote must not need a migration of ours.
things = Table(
    "things",
    metadata,
    Column("deployment_id", ForeignKey("deployments.id"), primary_key=True),
    Column("kind", String(32), primary_key=True),  # machine, medium, …
    Column("name", String(255), primary_key=True),
    Column("phase", String(32), nullable=False),
    Column("facts", JSON, nullable=False),  # as the kind's facts write themselves; of machines: model.Facts.to_json
    Column("changed", Double, nullable=False),
)

# Rows are only added. An attempt's row is completed once, when the attempt ends.
journal = Table(
    "journal",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("deployment_id", ForeignKey("deployments.id"), nullable=False),
    Column("kind", String(32), nullable=False, server_default="machine"),
    Column("name", String(255), nullable=False),  # no foreign key: history outlives the thing
    Column("label", Text, nullable=False),
    Column("phase_from", String(32), nullable=False),
    Column("phase_to", String(32), nullable=False),
    Column("began", Double, nullable=False),
    Column("ended", Double),
    Column("outcome", String(16), nullable=False),
    Column("error", Text, nullable=False, default=""),
    Column("tasks", JSON, nullable=False),  # UPIDs, in the order they were noted
    Index("journal_by_thing", "deployment_id", "kind", "name", "id"),
    sqlite_autoincrement=True,  # an ID never comes back, not even after rows were deleted
)

leases = Table(
    "leases",
    metadata,
    Column("deployment_id", ForeignKey("deployments.id"), primary_key=True),
    Column("kind", String(32), primary_key=True),  # empty, as the name: all that the deployment has
    Column("name", String(255), primary_key=True),
    Column("token", String(64), nullable=False),
    Column("holder", JSON, nullable=False),  # holder.Holder
    Column("since", Double, nullable=False),
    Column("heartbeat", Double, nullable=False),
)

winners = Table(
    "winners",
    metadata,
    Column("deployment_id", ForeignKey("deployments.id"), primary_key=True),
    Column("machine", String(255), primary_key=True),
    Column("site", String(255), primary_key=True),  # where the operator was when it won
    Column("endpoint", JSON, nullable=False),  # model.Endpoint
    Column("won", Double, nullable=False),
)

# A document of JSON Patches (RFC 6902), for NixOps 4's state resource: the n-th event leads from n to n + 1.
events = Table(
    "events",
    metadata,
    Column("document", String(255), primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("event", Text, nullable=False),
    Column("version", Text, nullable=False),  # of the NixOps that told it
    Column("patch", JSON, nullable=False),
    Column("at", Double, nullable=False),
)

# Whole files of other programs, such as NixOps's state.
blobs = Table(
    "blobs",
    metadata,
    Column("name", String(255), primary_key=True),
    Column("version", Integer, nullable=False),  # grows by one with each writing
    Column("content", LargeBinary, nullable=False),
    Column("sha256", String(64), nullable=False),
    Column("written", Double, nullable=False),
)

# Who works with such a file.
locks = Table(
    "locks",
    metadata,
    Column("name", String(255), primary_key=True),
    Column("token", String(64), nullable=False),
    Column("holder", JSON, nullable=False),  # holder.Holder
    Column("purpose", Text, nullable=False),
    Column("since", Double, nullable=False),
)
