"""The parts of the lab's forge: 28 MiB of Debian's packages, of which 80 MiB are kept."""

from debian_parts import LIBRARIES, Part

PARTS = {
    "http": Part(
        ("nginx", "fcgiwrap", "libfcgi0ldbl"),
        ("usr/sbin/nginx", "usr/sbin/fcgiwrap", f"{LIBRARIES}/libfcgi.so*"),
    ),
    "git": Part(
        ("git",),
        ("usr/bin/git", "usr/lib/git-core/git-http-backend", "usr/lib/git-core/git-remote-http"),
    ),
    "psql": Part(
        ("postgresql-client-15", "libpq5"),
        ("usr/lib/postgresql/15/bin/psql", f"{LIBRARIES}/libpq.so*"),
    ),
    "postgresql": Part(
        # The guests' own libicudata has no data, and initdb asks it for collations.
        ("postgresql-15", "libicu72"),
        (
            *(f"usr/lib/postgresql/15/bin/{name}" for name in ("postgres", "initdb")),
            *(f"usr/lib/postgresql/15/lib/{name}.so" for name in ("plpgsql", "dict_snowball")),
            "usr/share/postgresql/15/*.*",
            "usr/share/postgresql/15/extension/plpgsql*",
            "usr/share/postgresql/15/timezonesets/*",
            "usr/share/postgresql/15/tsearch_data/*",
            f"{LIBRARIES}/libicudata.so*",
        ),
    ),
    "redis": Part(
        ("redis-server", "redis-tools", "libjemalloc2", "liblzf1", "libatomic1"),
        (
            "usr/bin/redis-server",
            "usr/bin/redis-check-rdb",
            "usr/bin/redis-cli",
            *(f"{LIBRARIES}/{name}.so*" for name in ("libjemalloc", "liblzf", "libatomic")),
        ),
    ),
}
