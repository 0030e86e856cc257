#!/bin/sh
# Makes what the guest boots: Debian's cloud kernel, and an initramfs of busybox, the release binary as users run it, and
# the checks of tests/numbers and tests/live_bpf. The programs are the very files that run on this host, so nothing is compiled for the guest
# alone; the C library they are linked to goes with them. Everything lands in target/guest; a kernel that is there is kept.
set -eu
cd "$(dirname "$0")/../.."
out=target/guest
mkdir -p "$out"

# Debian's cloud kernel, as a package in target/guest/kernel; fails where apt's lists are missing or older than its archive.
download() {
    rm -rf "$out/kernel"
    mkdir -p "$out/kernel"
    # The metapackage names the newest image by its full version.
    package=$(apt-cache depends linux-image-cloud-amd64 | sed -n 's/^ *Depends: *\(linux-image-[^ ]*\)$/\1/p' | head -n 1)
    # As root apt drops to a user of its own, which may not write here: it says so and goes on.
    [ -n "$package" ] && (cd "$out/kernel" && apt-get download -q "$package" 2>&1)
}

if ! [ -e "$out/vmlinuz" ]; then
    download || { apt-get update -qq && download; }
    (cd "$out/kernel" && dpkg-deb -x ./*.deb unpacked)
    cp "$out"/kernel/unpacked/boot/vmlinuz-* "$out/vmlinuz"
    rm -rf "$out/kernel"
fi

cargo build --locked --release --bin stallspan
messages=$(cargo test --locked --no-run --test numbers --test live_bpf --message-format=json-render-diagnostics)
# The program that cargo built of a test.
built() {
    printf '%s\n' "$messages" | sed -n "s/.*\"executable\":\"\([^\"]*\/$1-[^\"]*\)\".*/\1/p" | tail -n 1
}
numbers=$(built numbers) programs=$(built live_bpf)
[ -n "$numbers" ] && [ -n "$programs" ] || { echo "cargo built no tests/numbers or no tests/live_bpf" >&2; exit 1; }

root=$out/root
rm -rf "$root"
mkdir -p "$root/bin" "$root/dev" "$root/etc" "$root/proc" "$root/sys" "$root/run" "$root/tmp"
cp "$(command -v busybox)" "$root/bin/busybox"
cp "${CARGO_TARGET_DIR:-target}/release/stallspan" "$root/bin/stallspan"
strip -o "$root/bin/numbers" "$numbers"
strip -o "$root/bin/live_bpf" "$programs"
# Paths of the loader and of every library, where the programs look for them.
ldd "$root/bin/stallspan" "$root/bin/numbers" "$root/bin/live_bpf" | sed -n 's/^[[:space:]]*\(.* => \)\{0,1\}\(\/[^ ]*\) (0x.*/\2/p' | sort -u | while IFS= read -r library; do
    mkdir -p "$root$(dirname "$library")"
    cp -L "$library" "$root$library"
done
echo "127.0.0.1 localhost guest" >"$root/etc/hosts"
cp tests/guest/init "$root/init"
chmod 755 "$root/init"
(cd "$root" && find . -print | cpio --quiet -o -H newc -R 0:0) | gzip -1 >"$out/initrd.gz"
