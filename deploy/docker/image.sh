#!/usr/bin/env bash
# Builds a container image around a gaia that is there already, from nothing but the files of this machine:
#
#     deploy/docker/image.sh target/release/gaia gaia:local
#
# The image has the binary, the shared libraries that it was linked with, what glibc needs to look up names, and a user
# without privileges; no shell, no packages, nothing to download. A statically linked binary makes a smaller one still.
# BASE=IMAGE puts the same on top of another image, BASE=debian:bookworm-slim for example, to have a shell to look around with.
#
# There are no root certificates in it: they are needed only to read data from stores over https, and Gaia's own links
# trust Gaia's own authority. CA_BUNDLE=/etc/ssl/certs/ca-certificates.crt puts this machine's in.
set -euo pipefail

if [ $# -ne 2 ]; then
    sed -n '2,4s/^# \{0,1\}//p' "$0" >&2
    exit 2
fi
binary=$1 tag=$2
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
[ -x "$binary" ] || { echo "$binary: no such program" >&2; exit 2; }

context=$(mktemp -d)
trap 'rm -rf "$context"' EXIT
root=$context/root
mkdir -p "$root"/{etc,tmp,usr/local/bin} "$context/lib/gaia"
chmod 1777 "$root/tmp"

install -m 755 "$binary" "$root/usr/local/bin/gaia"
# Debugging sections are most of an unstripped binary. Symbols stay, so that a panic still tells where it was.
strip --strip-debug "$root/usr/local/bin/gaia" 2>/dev/null || true

# Puts a file at the place where it is here, links followed: the loader looks for exactly these paths.
take() {
    mkdir -p "$root$(dirname "$1")"
    cp -L "$1" "$root$1"
}

# "libc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x...)" and "/lib64/ld-linux-x86-64.so.2 (0x...)"
libraries=$(ldd "$binary" 2>/dev/null | grep -o '/[^ ]*' || true)
for library in $libraries; do take "$library"; done

# What getaddrinfo opens by itself. Since glibc 2.34 it is all in libc; older ones have a library for each source.
libc=$(grep -m1 '/libc\.so\.6$' <<<"$libraries" || true)
if [ -n "$libc" ]; then
    for library in libnss_files.so.2 libnss_dns.so.2 libresolv.so.2; do
        if [ -e "$(dirname "$libc")/$library" ]; then take "$(dirname "$libc")/$library"; fi
    done
fi
echo 'hosts: files dns' >"$root/etc/nsswitch.conf"

echo 'gaia:x:65532:65532:gaia:/var/lib/gaia:/sbin/nologin' >"$root/etc/passwd"
echo 'gaia:x:65532:' >"$root/etc/group"
if [ -n "${CA_BUNDLE:-}" ]; then install -D -m 644 "$CA_BUNDLE" "$root/etc/ssl/certs/ca-certificates.crt"; fi

# The older builder is enough for this, is there wherever docker is, and says on each use that it is old.
said=$context/said
if ! DOCKER_BUILDKIT=0 docker build --quiet --build-arg "BASE=${BASE:-scratch}" --tag "$tag" \
    --file "$here/Dockerfile.prebuilt" "$context" >"$said" 2>&1; then
    cat "$said" >&2
    exit 1
fi
docker image inspect --format "$tag: {{.Id}}, {{.Size}} bytes" "$tag"
