#!/usr/bin/env bash
# Builds the real peers of the tests from the Go modules beside this file, into target/peers (never committed).
#
#   tests/peers/build.sh            all of them
#   tests/peers/build.sh tempo      some
#
# A peer already built from the same go.mod, go.sum and sources is left alone. They are built one after the other: each
# of them keeps two cores busy by itself.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
out="${STALLSPAN_PEERS_DIR:-$here/../../target/peers}"
tries=5

command -v go >/dev/null || {
  echo "go is missing: the Collector, Jaeger, Tempo and telemetrygen are built from source; install Go 1.26 or newer and run this again" >&2
  exit 1
}

# What to build in a peer's module, and with which toolchain.
package_of() {
  case $1 in
    collector) echo . ;;
    jaeger) echo github.com/jaegertracing/jaeger/cmd/all-in-one ;;
    tempo) echo github.com/grafana/tempo/cmd/tempo ;;
    telemetrygen) echo github.com/open-telemetry/opentelemetry-collector-contrib/cmd/telemetrygen ;;
    *) echo "no such peer: $1 (there are collector, jaeger, tempo, telemetrygen)" >&2; return 1 ;;
  esac
}
toolchain_of() {
  case $1 in
    tempo) echo go1.20.14 ;; # a codec of its gRPC is registered by package order, which Go 1.21 changed: built by a newer one it panics
    *) echo auto ;;
  esac
}

fingerprint() { (cd "$here/$1" && find . -type f | LC_ALL=C sort | xargs cat -- "$here/build.sh" | sha256sum | cut -d' ' -f1); }

build() {
  local peer=$1 package toolchain stamp try
  package=$(package_of "$peer")
  toolchain=$(toolchain_of "$peer")
  stamp="$out/.$peer.built"
  if [ -x "$out/$peer" ] && [ "$(cat "$stamp" 2>/dev/null)" = "$(fingerprint "$peer")" ]; then
    echo "peers: $peer is built"
    return 0
  fi
  for try in $(seq "$tries"); do
    echo "peers: building $peer (try $try of $tries)"
    if (cd "$here/$peer" && GOFLAGS=-mod=readonly GOTOOLCHAIN=$toolchain CGO_ENABLED=0 \
          nice go build -buildvcs=false -trimpath -ldflags='-s -w' -o "$out/$peer.new" "$package"); then
      mv "$out/$peer.new" "$out/$peer"
      fingerprint "$peer" >"$stamp"
      return 0
    fi
    sleep $((try * 3)) # a dropped connection to the module proxy: the same command goes through later
  done
  echo "peers: $peer could not be built; its last error stands above" >&2
  return 1
}

mkdir -p "$out"
if [ $# -eq 0 ]; then set -- collector jaeger tempo telemetrygen; fi
for peer in "$@"; do build "$peer"; done
