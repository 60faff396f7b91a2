# shellcheck shell=sh
# Whatever was pushed goes into the database, and into the queue of the CI runner.
set -eu
repository=$(basename "$(pwd)" .git)
while read -r _ commit branch; do
  case $commit in *[!0]*) ;; *) continue ;; esac # a branch that was deleted
  # Quoted by psql: a subject is somebody else's text.
  sql --set "repository=$repository" --set "branch=${branch#refs/heads/}" --set "commit=$commit" \
    --set "author=$(git log -1 --format=%ae "$commit")" --set "subject=$(git log -1 --format=%s "$commit")" <<'SQL'
insert into pushes (repository, branch, commit, author, subject)
values (:'repository', :'branch', :'commit', :'author', :'subject');
SQL
  redis lpush builds "$repository $commit" >/dev/null
  echo "the forge has recorded $commit, and its test is queued"
done
