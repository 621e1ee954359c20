#!/usr/bin/env bash
# Renders each region as `kubectl apply --kustomize` would, and holds the result against Kubernetes' schemas and against what
# its parts say of each other. With a binary, Gaia itself reads the region files:
#
#     deploy/kubernetes/check.sh [target/release/gaia]
set -euo pipefail
binary=${1:+$(realpath "$1")}
cd "$(dirname "${BASH_SOURCE[0]}")"

if command -v kubectl >/dev/null; then
    render=(kubectl kustomize)
elif command -v kustomize >/dev/null; then
    render=(kustomize build)
else
    # Debian's kubernetes-client has a kustomize of 2018, which cannot read these files.
    echo "kubernetes: skipped, neither kubectl nor kustomize is here"
    exit 0
fi

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

# GAIA_KUBERNETES_VALIDATE keeps an environment that is there already.
python=${GAIA_KUBERNETES_VALIDATE:-$scratch/python}
if [ ! -x "$python/bin/kubernetes-validate" ]; then
    if ! { python3 -m venv "$python" && "$python/bin/pip" install --quiet 'kubernetes-validate==1.*' 'PyYAML==6.*'; }; then
        echo "kubernetes: skipped, the schemas cannot be installed here"
        exit 0
    fi
fi

for overlay in overlays/*/; do
    region=$(basename "$overlay")
    "${render[@]}" "$overlay" >"$scratch/$region.yaml"
    # The oldest release that is still looked after, about, and the newest that it knows.
    for version in 1.31 1.37; do
        if ! "$python/bin/kubernetes-validate" --strict --no-warn --kubernetes-version "$version" "$scratch/$region.yaml" \
            >"$scratch/said" 2>&1; then
            cat "$scratch/said" >&2
            exit 1
        fi
    done
    mkdir "$scratch/$region"
    "$python/bin/python" check.py "$scratch/$region.yaml" "$scratch/$region"

    # It reads the files before it looks for this worker, which there is not; certificates come after that.
    if [ -n "$binary" ]; then
        if "$binary" worker --config "$scratch/$region/region.toml" --data-path ../../gaia/data --index 1000000 \
            2>"$scratch/said" || ! grep -q 1000000 "$scratch/said"; then
            cat "$scratch/said" >&2
            exit 1
        fi
        echo "kubernetes: gaia reads the files of $region"
    fi
done

# One job in all regions, and the one that is trained elsewhere.
cmp base/job.toml ../../configs/jobs/digits.toml
