# shellcheck shell=sh
# The git machine: the repositories, the programs that answer requests, and nginx before them.
set -eu
mkdir -p /run/nginx /run/forge/hooks /var/lib/git
chown git:git /var/lib/git
cat >/run/forge/gitconfig <<'EOF'
[core]
  hooksPath = /run/forge/hooks
[http]
  receivepack = true
EOF
# program FILE TEXT: an executable that knows this machine's environment, whoever calls it.
program() {
  printf '#!/bin/sh\n. %s\n%s\n' "$LIBRARY" "$2" >"$1.new"
  chmod 0755 "$1.new"
  mv "$1.new" "$1"
}
program /run/forge/hooks/post-receive ". $HOOK"
program /run/forge/page ". $PAGE"
program /run/forge/git "exec git http-backend"

[ -e /var/lib/git/hello.git/HEAD ] || as git git init --quiet --bare --initial-branch main /var/lib/git/hello.git
as git fcgiwrap -c 2 -s tcp:127.0.0.1:9000 &
exec nginx -e stderr -c "$CONFIGURATION"
