#!/usr/bin/env bash
# Builds both images around a binary, and looks at what they are:
#
#     deploy/docker/check.sh target/release/gaia
#
# No base image is pulled. What Dockerfile builds on is a Debian made here by debootstrap (GAIA_DEBIAN keeps one), and its
# compiler a stand-in that hands out the binary: every instruction is carried out but the compiling, which is the README's
# command.
set -euo pipefail
binary=$(realpath "${1:?a binary}")
cd "$(dirname "${BASH_SOURCE[0]}")"

scratch=$(mktemp -d)
tag=gaia-check-$$
finish() {
    # What a stage of several leaves behind has no name; it came after the stand-in that it is made of.
    left=$(docker images --quiet --filter dangling=true --filter "since=$tag:rust" 2>/dev/null || true)
    docker image rm --force "$tag:prebuilt" "$tag:source" "$tag:rust" $left "$tag:debian" >/dev/null 2>&1 || true
    rm -rf "$scratch"
}
trap finish EXIT

# Whatever it is made of: it runs without privileges and without writing, and knows its health.
look_at() {
    local image=$1 version
    version=$(docker run --rm --read-only --cap-drop ALL --security-opt no-new-privileges --network none "$image" --version)
    [ "$version" = "$("$binary" --version)" ]
    [ "$(docker image inspect --format '{{.Config.User}}' "$image")" = 65532:65532 ]
    [ "$(docker image inspect --format '{{index .Config.Healthcheck.Test 1}}' "$image")" = /usr/local/bin/gaia ]
    [ "$(docker image inspect --format '{{json .Config.Entrypoint}}' "$image")" = '["/usr/local/bin/gaia"]' ]
    # A place to write to, if one wants the trained tables.
    docker run --rm --network none "$image" certs init --directory /var/lib/gaia/certs >/dev/null
    echo "docker: $version in ${image#*:}, $(($(docker image inspect --format '{{.Size}}' "$image") / 1000000)) MB"
}

./image.sh "$binary" "$tag:prebuilt" >/dev/null
look_at "$tag:prebuilt"

# Both files end alike: what runs is the same.
tail_of() { sed -n '/^# By number/,$p' "$1"; }
cmp <(tail_of Dockerfile) <(tail_of Dockerfile.prebuilt)

debian=${GAIA_DEBIAN:-$scratch/debian}
if [ ! -d "$debian" ]; then
    if [ "$(id -u)" != 0 ]; then echo "docker: Dockerfile is skipped, only root makes a Debian"; exit 0; fi
    if ! command -v debootstrap >/dev/null; then
        { apt-get update -qq && apt-get install -qq --yes debootstrap; } >/dev/null 2>&1 || true
    fi
    if ! debootstrap --variant=minbase bookworm "$debian" >"$scratch/said" 2>&1; then
        tail -n 3 "$scratch/said"
        echo "docker: Dockerfile is skipped, a Debian cannot be made here"
        exit 0
    fi
fi
tar --directory "$debian" --create --exclude ./proc --exclude ./sys --exclude ./dev . | docker import - "$tag:debian" >/dev/null

# The stand-in for the Rust image.
mkdir "$scratch/rust"
cp "$binary" "$scratch/rust/gaia"
cat >"$scratch/rust/cargo" <<'CARGO'
#!/bin/sh
set -e
[ "$*" = "build --profile dist --locked --bin gaia" ]
# What a real one needs is there.
ls Cargo.toml Cargo.lock gaia/src/main.rs gaia/data/digits-train.csv.gz >/dev/null
mkdir -p target/dist
cp /stand-in/gaia target/dist/
CARGO
printf '#!/bin/sh\n' >"$scratch/rust/objcopy"
chmod +x "$scratch/rust/cargo" "$scratch/rust/objcopy"
printf 'FROM %s\nCOPY gaia /stand-in/\nCOPY cargo objcopy /usr/local/bin/\n' "$tag:debian" >"$scratch/rust/Dockerfile"

# The older builder knows only one .dockerignore, at the root of the context: the context is what that would leave.
mkdir "$scratch/context"
(cd ../.. && git ls-files --cached --others --exclude-standard -z | grep -zv '^deploy/' | xargs -0 cp --parents -t "$scratch/context")
quietly() { "$@" >"$scratch/said" 2>&1 || { tail -n 20 "$scratch/said" >&2; exit 1; }; }
quietly env DOCKER_BUILDKIT=0 docker build --tag "$tag:rust" "$scratch/rust"
quietly env DOCKER_BUILDKIT=0 docker build --network host --file Dockerfile --tag "$tag:source" \
    --build-arg "RUST_IMAGE=$tag:rust" --build-arg "RUNTIME_IMAGE=$tag:debian" "$scratch/context"
look_at "$tag:source"
