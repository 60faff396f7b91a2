# shellcheck shell=sh
# What Prometheus reads of each machine, under the names that its node exporter has for it.
set -eu
mkdir -p /run/exporter
cat >/run/exporter/metrics <<'EOF'
#!/bin/sh
read -r load _ </proc/loadavg
read -r up _ </proc/uptime
echo "node_load1 $load"
echo "node_uptime_seconds $up"
echo "node_uname_info{nodename=\"$(hostname)\"} 1"
EOF
chmod 0755 /run/exporter/metrics
exec serve-http 9100 /run/exporter/metrics
