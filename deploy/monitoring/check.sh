#!/usr/bin/env bash
# Lets Prometheus' own tool read its configuration, test the alerts, and parse what the dashboard asks and a process answers.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
python3 dashboard.py "$scratch"

if ! command -v promtool >/dev/null; then
    # Debian has it in its package of the server, which need not run for this.
    { apt-get update -qq && apt-get install -qq --yes --no-install-recommends prometheus; } >/dev/null 2>&1 || true
fi
if ! command -v promtool >/dev/null; then
    echo "monitoring: the rest is skipped, promtool cannot be installed here"
    exit 0
fi

quietly() { "$@" >"$scratch/said" 2>&1 || { cat "$scratch/said" >&2; exit 1; }; }
quietly promtool check config prometheus.yml
quietly promtool check rules --lint-fatal alerts.yml
quietly promtool test rules alerts_test.yml
# The dashboard's queries, as rules.
quietly promtool check rules --lint-fatal "$scratch/dashboard.yml"
# What processes say at /metrics; a test of Gaia keeps this file as it is.
quietly promtool check metrics <../../gaia/src/service/admin/snapshots/metrics.txt
echo "monitoring: configuration, alerts and their tests, queries and metrics are right"
