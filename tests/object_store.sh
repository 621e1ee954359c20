#!/usr/bin/env bash
# Data in an object store, against a store that speaks S3 on this machine: moto's server, installed from PyPI into a
# directory of its own (GAIA_MOTO keeps one that is there already). Skipped, and said so, where there is no PyPI.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

scratch=$(mktemp -d)
server=
finish() {
    if [ -n "$server" ]; then kill "$server" 2>/dev/null || true; fi
    rm -rf "$scratch"
}
trap finish EXIT

moto=${GAIA_MOTO:-$scratch/moto}
if [ ! -x "$moto/bin/moto_server" ]; then
    if ! { python3 -m venv "$moto" && "$moto/bin/pip" install --quiet 'moto[server]==5.2.*'; }; then
        echo "object store: moto cannot be installed here, skipped"
        exit 0
    fi
fi

# Built first, so that the store does not wait for the compiler.
cargo test --locked --workspace --test object_store --no-run

port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
"$moto/bin/moto_server" --host 127.0.0.1 --port "$port" >"$scratch/log" 2>&1 &
server=$!
for _ in $(seq 100); do
    if python3 -c "import socket; socket.create_connection(('127.0.0.1', $port), 1)" 2>/dev/null; then break; fi
    if ! kill -0 "$server" 2>/dev/null; then break; fi
    sleep 0.2
done

if ! GAIA_S3_ENDPOINT=http://127.0.0.1:$port cargo test --locked --workspace --test object_store -- --nocapture; then
    cat "$scratch/log"
    exit 1
fi
