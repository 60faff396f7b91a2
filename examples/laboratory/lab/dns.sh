# shellcheck shell=sh
set -eu
mkdir -p /run/dnsmasq
exec dnsmasq --no-daemon --user=root --group=root --conf-file="$CONFIGURATION" --dhcp-leasefile=/run/dnsmasq/leases
