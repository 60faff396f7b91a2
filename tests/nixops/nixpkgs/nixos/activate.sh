#!/bin/sh
# Runs at every boot and at every switch. Who may log in is what the configuration says, and nobody else.
set -eu
mkdir -p /etc/ssh/authorized_keys.d
cp @system@/etc/root-keys /etc/ssh/authorized_keys.d/.root.new
mv /etc/ssh/authorized_keys.d/.root.new /etc/ssh/authorized_keys.d/root
rm -f /root/.ssh/authorized_keys
cp @system@/message /etc/.message.new
mv /etc/.message.new /etc/message
