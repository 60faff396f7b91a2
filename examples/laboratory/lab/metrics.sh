# shellcheck shell=sh
# Prometheus, which looks at the folder of its targets again when a file there changes.
set -eu
mkdir -p /var/lib/prometheus/targets /var/lib/prometheus/data
exec prometheus --config.file="$CONFIGURATION" --storage.tsdb.path=/var/lib/prometheus/data
