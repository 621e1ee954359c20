#!/usr/bin/env bash
# Takes the debug information out of a binary, into a file beside it that gdb, perf and addr2line find by themselves:
#
#     cargo build --profile dist --locked --bin gaia
#     deploy/split-debug.sh target/dist/gaia       target/dist/gaia, to be deployed, and target/dist/gaia.debug, to be kept
#
# Backtraces of the small one still have the names of functions; `addr2line -e gaia.debug ADDRESS` has the lines.
set -euo pipefail

binary=${1:?which binary?}
sections=$(readelf --section-headers --wide "$binary")
if [[ $sections != *.debug_line* ]]; then
    echo "$binary has no debug information: build it with --profile dist" >&2
    exit 2
fi
# Made aside, so that one that is interrupted leaves the binary as it was.
small=$binary.small
trap 'rm -f "$small"' EXIT
objcopy --only-keep-debug --compress-debug-sections "$binary" "$binary.debug"
objcopy --strip-debug --add-gnu-debuglink="$binary.debug" "$binary" "$small"
chmod --reference="$binary" "$small"
chmod -x "$binary.debug"
mv "$small" "$binary"
