#!/usr/bin/env bash
# Exercises everything in this directory, as far as this machine can:
#
#     deploy/check.sh                        what needs no program: monitoring, systemd, Kubernetes
#     deploy/check.sh target/release/gaia    that and the image, and three regions in containers
#
# What a check needs it installs (from Debian and PyPI), and says so and goes on where that cannot be had. Two minutes,
# besides installing.
set -euo pipefail
binary=${1:+$(realpath "$1")}
cd "$(dirname "${BASH_SOURCE[0]}")"

monitoring/check.sh
systemd/check.sh
kubernetes/check.sh ${binary:+"$binary"}

if [ -z "$binary" ]; then
    echo "containers: skipped, no binary was given"
elif ! docker info >/dev/null 2>&1; then
    echo "containers: skipped, no Docker engine answers"
else
    docker/check.sh "$binary"
    if ! docker compose version >/dev/null 2>&1 && ! command -v docker-compose >/dev/null; then
        { apt-get update -qq && apt-get install -qq --yes --no-install-recommends docker-compose; } >/dev/null 2>&1 || true
    fi
    if docker compose version >/dev/null 2>&1 || command -v docker-compose >/dev/null; then
        compose/run.sh "$binary"
    else
        echo "compose: skipped, it cannot be installed here"
    fi
fi
