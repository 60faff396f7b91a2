# shellcheck shell=sh
# lease NIC: what a DHCP server there offers to a machine that is new. Nothing is changed.
set -eu
cat >/run/lease-told <<'EOF'
#!/bin/sh
[ "$1" != bound ] || echo "$ip by way of $router, of $domain"
EOF
chmod 0755 /run/lease-told
exec busybox udhcpc -i "$1" -s /run/lease-told -n -q -f -t 10 -T 1
