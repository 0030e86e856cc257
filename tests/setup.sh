#!/usr/bin/env bash
# Everything this repository needs from outside, on a fresh Debian machine as root. Does nothing where all of it is there.
#
#   tests/setup.sh build    what compiling needs
#   tests/setup.sh release  that, and the container that a build is watched with
#   tests/setup.sh test     all that the tests with real parts need
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
peers="${STALLSPAN_PEERS_DIR:-$here/../target/peers}"
updated=

fail() { echo "setup: $*" >&2; exit 1; }

# Installs a package unless the program it is wanted for is there.
want() {
  local program=$1 package=$2
  if command -v "$program" >/dev/null; then return 0; fi
  install "$package"
}

install() {
  [ "$(id -u)" = 0 ] || fail "package $1 is missing; run this as root, or: sudo apt-get install $1"
  command -v apt-get >/dev/null || fail "package $1 is missing, and this is not Debian: install what carries it here"
  update
  echo "setup: installing $1"
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$1" >/dev/null
}

update() {
  if [ -z "$updated" ]; then apt-get update -qq; updated=yes; fi
}

# A program out of a package whose service nobody asked for: unpacked, not installed.
unpack() {
  local package=$1 program=$2 folder
  if command -v "$program" >/dev/null || [ -x "$peers/$program" ]; then return 0; fi
  update
  echo "setup: unpacking $program"
  mkdir -p "$peers"
  folder=$(mktemp -d)
  (cd "$folder" && apt-get download -qq "$package" && dpkg-deb -x ./*.deb unpacked)
  cp "$folder/unpacked/usr/bin/$program" "$peers/$program"
  rm -rf "$folder"
}

for_building() {
  command -v cargo >/dev/null || fail "cargo is missing: install Rust 1.95 or newer (rustup.rs, or your distribution's rustup package) and run this again"
  want cc build-essential
  want protoc protobuf-compiler # containerd's API is compiled from its .proto files
  [ -e /usr/include/google/protobuf/any.proto ] || install libprotobuf-dev # …which include these
}

for_containers() {
  want containerd containerd
  want runc runc
  want busybox busybox-static
}

for_testing() {
  command -v go >/dev/null || fail "go is missing: the Collector, Jaeger and Tempo of the tests are built from source; install Go 1.26 or newer and run this again"
  for_containers
  want ip iproute2 # a pod's network
  want clang-14 clang-14 # the committed eBPF object is what this compiler makes of its source
  want llvm-strip-14 llvm-14
  [ -e /usr/include/bpf/bpf_helpers.h ] || install libbpf-dev
  unpack prometheus promtool
  # Clients of other languages.
  python3 -c 'import ensurepip, venv' 2>/dev/null || install python3-venv
  want node nodejs
  want npm npm
  want javac default-jdk-headless
  want mvn maven
  want qemu-system-x86_64 qemu-system-x86 # boots another kernel, with cgroup v2
  want cpio cpio
}

case "${1:-}" in
  build) for_building ;;
  release) for_building; for_containers ;;
  test) for_building; for_testing ;;
  *) fail "say 'build', 'release' or 'test'" ;;
esac
