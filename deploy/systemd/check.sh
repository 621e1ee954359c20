#!/usr/bin/env bash
# Lets systemd itself read the units, and judge how exposed they are.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

if ! command -v systemd-analyze >/dev/null; then
    { apt-get update -qq && apt-get install -qq --yes systemd; } >/dev/null 2>&1 || true
fi
if ! command -v systemd-analyze >/dev/null; then
    echo "systemd: skipped, systemd-analyze cannot be installed here"
    exit 0
fi

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
# Units are looked up by name, and an instance is what runs. The program need not be installed where this is checked.
for unit in gaia-server@ gaia-worker@; do
    sed 's#^ExecStart=/usr/local/bin/gaia #ExecStart=/bin/true #' "$unit.service" >"$scratch/$unit.service"
    ln -s "$unit.service" "$scratch/${unit}0.service"
done

for unit in gaia-server@0 gaia-worker@0; do
    # What it has to say it says on standard error; about other units of this machine too, which are not ours.
    SYSTEMD_UNIT_PATH="$scratch:" systemd-analyze verify --recursive-errors=no "$scratch/$unit.service" 2>"$scratch/said" ||
        { cat "$scratch/said"; exit 1; }
    if grep "$unit\|gaia" "$scratch/said"; then exit 1; fi
    echo "systemd: $unit.service is right"
done

# From 0 (nothing to fear) to 10. A service without any of this has 9.6.
for unit in gaia-server@ gaia-worker@; do
    if systemd-analyze security --offline=yes --threshold=20 "$scratch/$unit.service" >"$scratch/judged" 2>&1; then
        tail -n 1 "$scratch/judged" | sed 's/[^[:print:]]//g; s/^ */systemd: /'
    else
        tail -n 1 "$scratch/judged"
        echo "systemd: $unit.service is more exposed than 2.0"
        exit 1
    fi
done

if command -v systemd-sysusers >/dev/null; then
    systemd-sysusers --dry-run "$PWD/gaia.sysusers" >/dev/null 2>&1 && echo "systemd: gaia.sysusers is right"
fi
