# shellcheck shell=sh
# A router: packets go through, and keepalived has the virtual addresses on one of the two.
set -eu
echo 1 >/proc/sys/net/ipv4/ip_forward
mkdir -p /run/keepalived
cat >/run/keepalived/conf <<EOF
vrrp_instance laboratory {
  state BACKUP
  interface eth1
  virtual_router_id 10
  priority $PRIORITY
  advert_int 1
  virtual_ipaddress {
    $OUTSIDE/24 dev eth0
    $INSIDE/24 dev eth1
    $HOUSE/24 dev eth2
  }
}
EOF
exec keepalived --dont-fork --log-console --log-detail --vrrp --use-file /run/keepalived/conf \
  --pid /run/keepalived/pid --vrrp_pid /run/keepalived/vrrp.pid
