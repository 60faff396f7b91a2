#!/bin/sh
# Takes the system in @system@ into use, with NixOS's own words for how.
set -eu
system=@system@

install_boot_loader() {
  if command -v lab-boot-menu >/dev/null; then lab-boot-menu "$system"; fi
}

case ${1-} in
  switch | test)
    "$system/activate"
    ln -sfn "$system" /run/current-system
    lab-services switch "$system"
    [ "$1" = test ] || install_boot_loader
    ;;
  boot) install_boot_loader ;;
  dry-activate) lab-services dry-switch "$system" ;;
  *)
    echo "usage: $0 switch|boot|test|dry-activate" >&2
    exit 1
    ;;
esac
