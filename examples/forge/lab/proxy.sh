# shellcheck shell=sh
# nginx, as the web machine's proxy and the git machine's web server.
set -eu
mkdir -p /run/nginx
exec nginx -e stderr -c "$CONFIGURATION"
