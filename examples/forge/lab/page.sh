# shellcheck shell=sh
# What was pushed, and what the CI runner said of it. The cache keeps the page for a second.
set -eu
list() {
  sql <<'SQL'
select p.repository || ' ' || left(p.commit, 8) || ' ' || p.subject || ': ' || coalesce(b.outcome, 'waits for its test')
from pushes p left join builds b using (repository, commit) order by p.id;
SQL
}
page=$(redis get page) || page=
if [ -z "$page" ]; then
  if ! page=$(list 2>&1); then
    printf 'Status: 503 Service Unavailable\r\nContent-Type: text/plain\r\n\r\nthe database does not answer\n'
    exit 0
  fi
  [ -z "$page" ] || redis set page "$page" ex 1 >/dev/null || true
fi
printf 'Content-Type: text/plain; charset=utf-8\r\n\r\n%s\n' "${page:-nothing was pushed yet}"
