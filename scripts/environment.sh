# Read by the other scripts: finds a Python, makes the virtualenv in .venv, and gets Debian packages where it may.
# shellcheck shell=sh disable=SC2034

ROOT=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
VENV=${NIXOPS_PROXMOX_VENV:-$ROOT/.venv}
PATH=$VENV/bin:$PATH:/usr/sbin:/sbin
export PATH
cd "$ROOT" || exit 1

# What the parts need beyond Python, as Debian calls it.
NIX_PACKAGES="nix-bin"
GUEST_PACKAGES="openssh-client iproute2 procps"
TEST_PACKAGES="openssh-sftp-server git dnsmasq-base"
SERVER_PACKAGES="openssh-server postgresql systemd zsh fish" # Debian starts what is installed, so only where nobody works
QEMU_PACKAGES="qemu-system-x86 qemu-utils ovmf swtpm xorriso isolinux syslinux-common grub-efi-amd64-bin grub-common
  mtools dosfstools squashfs-tools dnsmasq-base kmod lz4 binutils"

BROWSER_PACKAGES="chromium chromium-driver fonts-dejavu-core" # a browser looks at pages once a week

say() { printf '\033[1m%s\033[0m\n' "--- $*" >&2; }
if [ ! -t 2 ]; then say() { printf '%s\n' "--- $*" >&2; }; fi
stop() {
  printf '%s\n' "error: $*" >&2
  exit 1
}

# The way to root's rights: nothing, sudo, or false when there is none.
rights() {
  if [ "$(id -u)" = 0 ]; then echo env
  elif sudo -n true 2>/dev/null; then echo "sudo -n"
  elif [ -t 0 ] && command -v sudo >/dev/null; then echo sudo
  else return 1; fi
}

missing_packages() {
  for package in "$@"; do
    dpkg-query -W -f '${db:Status-Status}\n' "$package" 2>/dev/null | grep -qx installed || printf '%s ' "$package"
  done
}

# install_packages PACKAGE…: 0 when all are there afterwards; where it may not install, it says what to do and returns 1.
install_packages() {
  command -v apt-get >/dev/null && command -v dpkg-query >/dev/null || return 1
  wanted=$(missing_packages "$@")
  [ -n "$wanted" ] || return 0
  if ! as=$(rights); then
    say "missing, and no right to install: apt-get install $wanted"
    return 1
  fi
  say "installing Debian packages: $wanted"
  # shellcheck disable=SC2086  # words are meant
  if output=$($as apt-get update -qq 2>&1 &&
    $as env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $wanted 2>&1); then
    return 0
  fi
  printf '%s\n' "$output" >&2
  return 1
}

# need_program PROGRAM WHAT-FOR PACKAGE…: there, or installed, or named; 1 when it is still missing.
need_program() {
  program=$1 purpose=$2
  shift 2
  command -v "$program" >/dev/null && return 0
  if install_packages "$@" && command -v "$program" >/dev/null; then return 0; fi
  say "$program is missing ($purpose); on Debian it is in: $*"
  return 1
}

need_nix() {
  for place in /run/current-system/sw/bin /nix/var/nix/profiles/default/bin "${HOME:-/nonexistent}/.nix-profile/bin"; do
    [ ! -x "$place/nix-instantiate" ] || PATH=$PATH:$place
  done
  # shellcheck disable=SC2086
  need_program nix-instantiate "evaluates, builds and copies systems; or get it from https://nixos.org/download" $NIX_PACKAGES
}

unpack_busybox() {
  command -v apt-get >/dev/null || return 0
  say "unpacking Debian's busybox-static"
  (cd "$(mktemp -d)" && apt-get download -qq busybox-static && dpkg-deb -x ./*.deb "$VENV/busybox") >&2 || true
  [ -d "$VENV/busybox/bin" ] || [ ! -d "$VENV/busybox" ] || ln -s usr/bin "$VENV/busybox/bin" # where Debian 13 has it
}

# need_busybox: what the demo's and the tests' builds run in (examples/demo/builder.nix); 1 when there is none.
need_busybox() {
  [ -z "${DEMO_BUSYBOX:-}" ] || return 0
  DEMO_BUSYBOX=$VENV/busybox/bin/busybox
  if [ ! -x "$DEMO_BUSYBOX" ]; then
    # Debian's package `busybox` needs libraries, and cannot be installed beside the static one: that is unpacked then.
    if command -v dpkg-query >/dev/null && [ -z "$(missing_packages busybox)" ]; then unpack_busybox
    elif need_program busybox "builds the demo's and the tests' systems" busybox-static; then
      DEMO_BUSYBOX=$(command -v busybox)
    else unpack_busybox; fi # a user who may not install packages may download them
  fi
  [ -x "$DEMO_BUSYBOX" ] || return 1
  DEMO_BUSYBOX=$(readlink -f "$DEMO_BUSYBOX")
  export DEMO_BUSYBOX
}

is_python() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; }

# The first Python that is new enough; a name on PATH need not run (pyenv's shims).
find_python() {
  for name in python3.13 python3.12 python3.11 python3 /usr/bin/python3; do
    if is_python "$name"; then
      command -v "$name"
      return 0
    fi
  done
  return 1
}

make_environment() {
  python=$(find_python) || { install_packages python3 python3-venv && python=$(find_python); } ||
    stop "Python 3.11 or newer is missing: install it (Debian 12: apt-get install python3 python3-venv)"
  if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
    install_packages python3-venv || true
    "$python" -c 'import ensurepip, venv' 2>/dev/null ||
      stop "$python cannot make virtualenvs: install its venv module (Debian: apt-get install python3-venv)"
  fi
  say "making the virtualenv $VENV with $("$python" --version)"
  "$python" -m venv --clear "$VENV" || stop "no virtualenv could be made in $VENV"
}

# enter_environment EXTRAS: a virtualenv that holds this checkout; quick when setup.py is as it was.
enter_environment() {
  stamp=$VENV/.stamp-$1
  exec 9<"$ROOT"
  flock 9 2>/dev/null || true # two scripts at once: the second waits, then finds it made
  "$VENV/bin/python" -c '' 2>/dev/null || make_environment
  want=$("$VENV/bin/python" - setup.py <<'END'
import hashlib, pathlib, sys
print(sys.version_info[:2], hashlib.sha256(pathlib.Path(sys.argv[1]).read_bytes()).hexdigest())
END
  )
  if [ "$(cat "$stamp" 2>/dev/null)" != "$want $ROOT" ]; then
    say "installing the project and its dependencies (extra: $1)"
    "$VENV/bin/python" -m pip install --quiet --editable ".[$1]" >&2 ||
      stop "pip could not install the dependencies; is a package index in reach?"
    printf '%s\n' "$want $ROOT" >"$stamp"
  fi
  exec 9>&-
}
