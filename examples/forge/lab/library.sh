# shellcheck shell=sh
# Read by every script of the forge's machines, after the variables that system.nix sets.

export GIT_CONFIG_SYSTEM=/run/forge/gitconfig GIT_TEMPLATE_DIR='' GIT_TERMINAL_PROMPT=0
for part in $PARTS; do
  [ ! -d "$part/usr/lib/git-core" ] || export GIT_EXEC_PATH="$part/usr/lib/git-core"
done

# need_key NAME [USER]: wait until the secret can be read. A boot takes it away, and a deploy brings it; its owner gets it
# when there is such a user.
need_key() {
  until if [ -n "${2-}" ]; then as "$2" test -r "/run/keys/$1"; else [ -r "/run/keys/$1" ]; fi; do sleep 1; done
}

# as USER COMMAND…: run it with that user's rights, and those of the group that may look for secrets.
as() {
  user=$1
  shift
  setpriv --reuid "$user" --regid "$user" --groups keys -- env HOME="/var/lib/$user" "$@"
}

# sql [OPTION…]: run what is on standard input in the forge's database.
sql() {
  need_key db
  PGPASSWORD=$(cat /run/keys/db) PGCONNECT_TIMEOUT=5 \
    psql --no-psqlrc --quiet --no-align --tuples-only --set ON_ERROR_STOP=1 "$@" --host db --username forge forge
}

# redis WORD…: one command for the cache, which is the queue as well.
redis() {
  need_key cache
  REDISCLI_AUTH=$(cat /run/keys/cache) redis-cli -h cache --raw -e "$@" </dev/null
}
