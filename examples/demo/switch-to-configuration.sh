#!/bin/sh
# Takes the system in @system@ into use, with NixOS's own words for how.
set -eu
system=@system@
case ${1-} in
  switch | test)
    "$system/activate"
    ln -sfn "$system" /run/current-system
    lab-services switch "$system"
    ;;
  boot) ;; # what boots next is the system profile, which is set already
  dry-activate) lab-services dry-switch "$system" ;;
  *)
    echo "usage: $0 switch|boot|test|dry-activate" >&2
    exit 1
    ;;
esac
