# shellcheck shell=sh
# PostgreSQL, on the volume: it is formatted if it is blank, and the cluster is made if it has none.
set -eu
need_key db postgres
until [ -e "$VOLUME" ]; do sleep 1; done
mkdir -p /var/lib/postgresql /run/postgresql
chown postgres:postgres /run/postgresql
if ! grep -q ' /var/lib/postgresql ' /proc/self/mounts; then
  blkid "$VOLUME" >/dev/null || mkfs.ext4 -q "$VOLUME"
  mount "$VOLUME" /var/lib/postgresql
fi
cluster=/var/lib/postgresql/15
if [ ! -e $cluster ]; then
  # Made beside it, and then renamed: there is no half cluster.
  rm -rf $cluster.new
  mkdir $cluster.new
  chown postgres:postgres $cluster.new
  as postgres initdb --pgdata $cluster.new --no-sync --encoding UTF8 --locale C --auth scram-sha-256 \
    --pwfile /run/keys/db >/dev/null
  sync
  mv $cluster.new $cluster
fi

as postgres postgres -D $cluster -c hba_file="$ACCESS" -c listen_addresses='*' \
  -c unix_socket_directories=/run/postgresql -c shared_buffers=16MB -c max_connections=20 &
server=$!
trap 'kill -INT $server' TERM INT # a fast shutdown: it does not wait for clients
admin() { as postgres psql --no-psqlrc --quiet --host /run/postgresql --set ON_ERROR_STOP=1 "$@"; }
until admin --command 'select 1' postgres >/dev/null 2>&1; do
  kill -0 $server
  sleep 0.5
done
admin --file "$SCHEMA" postgres
wait $server || wait $server
