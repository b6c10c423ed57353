#!/usr/bin/env bash
# What the tests start beside Python is there, or is installed now where that may be done, or is named in one line.
# Usage: tests/programs.sh PACKAGE…
set -euo pipefail

is_there() { # where tests/servers.py, tests/browser/conftest.py and Playwright look for it
  case $1 in
    chromium) command -v "${CHROMIUM:-chromium}" || command -v chromium-browser ;;
    postgresql) command -v initdb || compgen -G "/usr/lib/postgresql/*/bin/initdb" ;;
    libatomic1) compgen -G "/usr/lib/*/libatomic.so.1" || compgen -G "/usr/lib*/libatomic.so.1" ;;
    openssl) command -v openssl ;;
    nginx) command -v nginx || command -v /usr/sbin/nginx ;;
  esac >/dev/null
}

packages=()
for package in "$@"; do
  is_there "$package" && continue
  packages+=("$package")
  [[ $package != chromium ]] || packages+=(fonts-liberation)
done
((${#packages[@]})) || exit 0

install="apt-get install --no-install-recommends ${packages[*]}"
if ! command -v apt-get >/dev/null; then
  echo "Missing on this system: ${packages[*]}." >&2
  exit 1
elif [[ $(id -u) -ne 0 ]]; then
  echo "Missing: sudo apt-get update && sudo $install" >&2
  exit 1
fi
echo "Installing ${packages[*]} ..."
export DEBIAN_FRONTEND=noninteractive
if [[ ! -e /usr/sbin/policy-rc.d ]]; then # Debian starts what it installs; nginx would listen for everybody
  trap 'rm -f /usr/sbin/policy-rc.d' EXIT
  printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d
  chmod +x /usr/sbin/policy-rc.d
fi
apt-get update -qq && $install -y -qq >/dev/null || {
  echo "They could not be installed: see above; is there a network and space on the disk?" >&2
  exit 1
}
