#!/bin/sh
# Runs at every boot and at every switch. Who may log in is what the configuration says, and nobody else.
set -eu
mkdir -p /etc/ssh/authorized_keys.d
for keys in @system@/etc/keys/*; do
  name=${keys##*/}
  cp "$keys" "/etc/ssh/authorized_keys.d/.$name.new"
  mv "/etc/ssh/authorized_keys.d/.$name.new" "/etc/ssh/authorized_keys.d/$name"
  grep -q "^$name:" /etc/passwd || echo "$name:x:1000:100::/home/$name:/bin/sh" >>/etc/passwd
done
rm -f /root/.ssh/authorized_keys
mkdir -p /etc/sudoers.d
cp @system@/etc/sudoers /etc/sudoers.d/system
[ ! -f /etc/nix/nix.conf ] || sed -i "s/^trusted-users = .*/$(cat @system@/etc/trusted)/" /etc/nix/nix.conf
cp @system@/message /etc/.message.new
mv /etc/.message.new /etc/message
