# shellcheck shell=sh
# One of those that answer for www.
set -eu
mkdir -p /run/web
printf '#!/bin/sh\necho "%s: it works"\n' "$(hostname)" >/run/web/answer
chmod 0755 /run/web/answer
exec serve-http 80 /run/web/answer
