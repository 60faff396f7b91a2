# shellcheck shell=sh
# The notifier: writes a message for each notice into a mailbox.
set -eu
mkdir -p /var/mail
until redis ping >/dev/null 2>&1; do sleep 1; done
while :; do
  notice=$(redis brpop notices 5) || { sleep 1; continue; }
  [ -n "$notice" ] || continue
  notice=$(printf '%s' "$notice" | tail -n 1) # after the queue's name
  printf 'From: forge\nTo: everybody\nDate: %s\nSubject: %s\n\n' "$(date -R)" "$notice" >>/var/mail/everybody
done
