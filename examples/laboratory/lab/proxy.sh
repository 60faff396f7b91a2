# shellcheck shell=sh
set -eu
exec haproxy -db -f "$CONFIGURATION"
