#!/usr/bin/env bash
# The tests run against a real mosquitto and a real Chromium, and LightGBM's library needs the system's OpenMP runtime.
# As root they are installed; otherwise they are named.
set -euo pipefail
missing=()
[ -x /usr/sbin/mosquitto ] || command -v mosquitto >/dev/null || missing+=(mosquitto)
command -v chromium >/dev/null || missing+=(chromium)
PATH=$PATH:/usr/sbin:/sbin ldconfig -p 2>/dev/null | grep -q libgomp.so.1 || missing+=(libgomp1)
[ ${#missing[@]} -eq 0 ] && exit 0
if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then
  echo "The tests need these packages; please install them and run this again:" >&2
  echo "    sudo apt-get install --no-install-recommends ${missing[*]}" >&2
  exit 2
fi
echo "Installing ${missing[*]} for the tests ..." >&2
export DEBIAN_FRONTEND=noninteractive
# no service may start by itself: the tests start their own broker on a free port of the loopback
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
  printf '#!/bin/sh\nexit 101\n' > "$policy"
  chmod +x "$policy"
  trap 'rm -f "$policy"' EXIT
fi
{ apt-get update -q && apt-get install -y -q --no-install-recommends "${missing[@]}"; } >&2
