# shellcheck shell=sh
# git-receive-pack and git-upload-pack for who comes over SSH: with the rights of the user `git`.
set -eu
as git git "$(basename "$0" | sed 's/^git-//')" "$@"
