# shellcheck shell=sh
# Read by every script of the laboratory's machines, after the variables that nix/lab/daemons.nix sets.
printf 'nameserver %s\nsearch %s\n' "$NAME_SERVER" "$DOMAIN" >/etc/resolv.conf
