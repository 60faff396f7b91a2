# shellcheck shell=sh
# Redis: the queues, and what the page remembers. It keeps nothing on a disk.
set -eu
need_key cache
exec redis-server - <<EOF
bind * -::*
protected-mode no
requirepass $(cat /run/keys/cache)
save ""
maxmemory 64mb
EOF
