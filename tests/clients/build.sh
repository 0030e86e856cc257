#!/usr/bin/env bash
# Installs what the senders of other people need, each from its language's registry, into target/clients (never committed).
#
#   tests/clients/build.sh            all of them
#   tests/clients/build.sh node       some
#
# Versions are pinned in requirements.txt, go.mod and go.sum, pom.xml, package-lock.json. What is installed from the same
# files already is left alone. A dropped connection is tried again.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
out="${STALLSPAN_CLIENTS_DIR:-$here/../../target/clients}"
tries=4

python() {
  rm -rf "$out/python"
  python3 -m venv "$out/python" &&
    "$out/python/bin/pip" install --quiet --disable-pip-version-check --no-deps -r "$here/python/requirements.txt"
}

go() { (cd "$here/go" && GOFLAGS=-mod=readonly CGO_ENABLED=0 command go build -buildvcs=false -trimpath -o "$out/send-go" .); }

java() {
  mvn --quiet --batch-mode -f "$here/java/pom.xml" \
    org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies "-DoutputDirectory=$out/java"
}

node() {
  mkdir -p "$out/node"
  cp "$here/node/package.json" "$here/node/package-lock.json" "$here/node/send.mjs" "$out/node"
  (cd "$out/node" && npm ci --silent --ignore-scripts --no-audit --no-fund)
}

fingerprint() { (cd "$here/$1" && find . -type f | LC_ALL=C sort | xargs cat -- "$here/build.sh" | sha256sum | cut -d' ' -f1); }

mkdir -p "$out"
if [ $# -eq 0 ]; then set -- python go java node; fi
for client in "$@"; do
  stamp="$out/.$client.built"
  if [ "$(cat "$stamp" 2>/dev/null)" = "$(fingerprint "$client")" ]; then
    echo "clients: $client is installed"
    continue
  fi
  for try in $(seq "$tries"); do
    echo "clients: installing $client (try $try of $tries)"
    if "$client"; then
      fingerprint "$client" >"$stamp"
      continue 2
    fi
    sleep $((try * 3))
  done
  echo "clients: $client could not be installed; its last error stands above" >&2
  exit 1
done
