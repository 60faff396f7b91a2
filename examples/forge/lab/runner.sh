# shellcheck shell=sh
# The CI runner: takes a commit from the queue, runs its test, writes down how it ended, and tells the notifier.
set -eu

# try REPOSITORY COMMIT FOLDER: the commit's own test, as nobody, with nothing of ours in its environment.
try() {
  git clone --quiet "http://git/git/$1.git" "$3/source" &&
    git -C "$3/source" checkout --quiet --detach "$2" &&
    chown -R nobody "$3" &&
    (cd "$3/source" && timeout 60 setpriv --reuid nobody --regid nogroup --clear-groups -- \
      env -i PATH=/usr/bin:/bin HOME="$3" sh ./test.sh)
}

# build REPOSITORY COMMIT: it fails where its outcome could not be written down, so that it is done again. (In the condition
# of an `if`, a shell does not stop at an error by itself.)
build() {
  folder=$(mktemp -d)
  chmod 0755 "$folder"
  if try "$1" "$2" "$folder" >/tmp/output 2>&1; then outcome=passed; else outcome=failed; fi
  sql --set "repository=$1" --set "commit=$2" --set "outcome=$outcome" --set "output=$(tail -c 4000 /tmp/output)" <<'SQL' || return 1
insert into builds (repository, commit, outcome, output) values (:'repository', :'commit', :'outcome', :'output')
on conflict (repository, commit) do update set outcome = excluded.outcome, output = excluded.output;
SQL
  redis lpush notices "$1 $(printf %.8s "$2") $outcome" >/dev/null
  rm -rf "$folder"
}

until redis ping >/dev/null 2>&1; do sleep 1; done
# A job is in `building` until it is done: a runner that was killed begins with what it had.
while [ -n "$(redis rpoplpush building builds)" ]; do :; done
while :; do
  job=$(redis brpoplpush builds building 5) || { sleep 1; continue; }
  [ -n "$job" ] || continue
  # shellcheck disable=SC2086  # two words are meant
  if build $job; then redis lrem building 1 "$job" >/dev/null; else sleep 2; redis rpoplpush building builds >/dev/null; fi
done
