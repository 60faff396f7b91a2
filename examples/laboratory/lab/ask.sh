# shellcheck shell=sh
# ask EXPRESSION: what Prometheus says, as JSON.
set -eu
exec curl --silent --show-error --max-time 20 --get --data-urlencode "query=$1" http://127.0.0.1:9090/api/v1/query
