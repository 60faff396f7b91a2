# shellcheck shell=sh
# psql in the forge's database, for the machine's administrator.
set -eu
as postgres psql --no-psqlrc --host /run/postgresql forge "$@"
