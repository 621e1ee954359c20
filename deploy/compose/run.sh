#!/usr/bin/env bash
# Trains the digits over three regions in containers, each on a network of its own, and checks what came of it:
#
#     deploy/compose/run.sh target/release/gaia              run, check, clean up (about a minute)
#     deploy/compose/run.sh --prepare target/release/gaia    only certificates and image, for `docker-compose up`
#
# Checked are: that no region reaches another but through a link; that all processes finish, and stop with exit code 0;
# that the regions end with one model, as good as the simulation's; and that bytes agree, as the servers, the links, the
# kernel and the simulation count them.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cd "$here"

prepare_only=false
if [ "${1:-}" = --prepare ]; then prepare_only=true; shift; fi
if [ $# -ne 1 ]; then
    sed -n '2,5s/^# \{0,1\}//p' "$0" >&2
    exit 2
fi
binary=$(cd "$OLDPWD" && realpath "$1")

regions=(virginia ireland singapore)
links=(virginia-ireland virginia-singapore ireland-singapore)
processes=(server-0 server-1 worker-0 worker-1 worker-2)

if docker compose version >/dev/null 2>&1; then compose=(docker compose); else compose=(docker-compose); fi

# --------------------------------------------------------------- certificates and image

if $prepare_only; then
    GAIA_RUN=$here/run GAIA_IMAGE=gaia:local
else
    GAIA_RUN=$(mktemp -d) GAIA_IMAGE=gaia:compose-$$
fi
# Who the processes are: whoever calls this, so that they can read their keys; root has a user made for it in the image.
if [ "$(id -u)" = 0 ]; then GAIA_USER=65532:65532; else GAIA_USER=$(id -u):$(id -g); fi
export GAIA_RUN GAIA_IMAGE GAIA_USER
project=gaia-compose-$$

clean_up() {
    local code=$?
    set +e
    if ! $prepare_only; then
        if [ "$code" != 0 ]; then
            echo "compose: failed; what the processes said last:" >&2
            "${compose[@]}" --project-name "$project" --file compose.yaml logs --no-color --tail 5 >&2
        fi
        "${compose[@]}" --project-name "$project" --file compose.yaml down --timeout 5 --volumes >/dev/null 2>&1
        docker image rm "$GAIA_IMAGE" >/dev/null 2>&1
        rm -rf "$GAIA_RUN"
    fi
    exit "$code"
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

authority=$GAIA_RUN/authority
if [ ! -e "$authority/ca.key" ]; then
    mkdir -p "$authority"
    "$binary" certs init --directory "$authority" >/dev/null
fi
for region in "${regions[@]}"; do
    for process in "${processes[@]}"; do
        name=$region-$process own=$GAIA_RUN/certs/$region-$process
        if [ ! -e "$authority/$name.pem" ]; then
            "$binary" certs issue "$region" "${process%-*}" "${process#*-}" --directory "$authority" >/dev/null
        fi
        # Each has its own key and nobody else's; the authority's stays where it is.
        mkdir -p "$own"
        cp "$authority"/{ca.pem,crl.pem,"$name.pem","$name.key"} "$own"
    done
done
for link in "${links[@]}"; do mkdir -p "$GAIA_RUN/counters/$link"; done
chown -R "$GAIA_USER" "$GAIA_RUN"/{certs,counters}
chmod 711 "$GAIA_RUN"
../docker/image.sh "$binary" "$GAIA_IMAGE"
if $prepare_only; then exit; fi

# ------------------------------------------------------------------------------- the run

gaia_compose() { "${compose[@]}" --project-name "$project" --file compose.yaml "$@"; }
# The container of a service, by the names of either version of compose.
container() { docker ps --quiet --filter "name=^/${project}[-_]$1[-_]1\$"; }
# What all processes of a region tell of themselves, as one of them hears it.
status() {
    local urls=() process
    for process in "${processes[@]}"; do urls+=(--url "http://$1-$process:9464"); done
    docker exec "$(container "$1-server-0")" gaia status --json "${urls[@]}"
}

gaia_compose config --quiet
# Any order would do for training. This one is for the comparison of bytes: servers, so that links find names to send to;
# links, so that nothing is sent to where nobody is yet; then the rest.
{
    gaia_compose up --detach "${regions[@]/%/-server-0}" "${regions[@]/%/-server-1}"
    gaia_compose up --detach "${links[@]/#/link-}"
    gaia_compose up --detach
} >"$GAIA_RUN/up" 2>&1 || { cat "$GAIA_RUN/up" >&2; exit 1; }
started=$SECONDS
echo "compose: $(gaia_compose ps --quiet | wc -l) containers on 3 networks"

# A region's network has no way out, and nobody in it but its processes and its two links.
for region in "${regions[@]}"; do
    network=${project}_$region
    [ "$(docker network inspect --format '{{.Internal}}' "$network")" = true ]
    strangers=$(docker network inspect --format '{{range .Containers}}{{println .Name}}{{end}}' "$network" |
        sed "s/^${project}[-_]//; s/[-_]1\$//; /^\$/d" | grep -v -e "^$region-" -e "^link-.*$region" || true)
    if [ -n "$strangers" ]; then echo "$region's network also has: $strangers" >&2; exit 1; fi
done

# Tried as well: a worker asks its own region's server 0, which answers, and another region's, which cannot hear it.
address() { docker inspect --format '{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}' "$(container "$1")"; }
probe() { docker exec "$1" gaia status --json --url "http://$2:9464" >/dev/null 2>&1; }
# Writes down a pair whose worker does not find what it should.
try() {
    local from=$1 to=$2 there=$3 asks=$4
    if [ "$from" != "$to" ]; then
        if probe "$asks" "$there" || probe "$asks" "$to-server-0"; then echo "$from reaches $to, past the links"; fi
    else
        for _ in $(seq 20); do if probe "$asks" "$there"; then return; fi; sleep 0.5; done
        echo "$from cannot reach its own server at $there"
    fi
}
for to in "${regions[@]}"; do
    there=$(address "$to-server-0")
    for from in "${regions[@]}"; do try "$from" "$to" "$there" "$(container "$from-worker-0")" & done
done >"$GAIA_RUN/reached"
wait
if [ -s "$GAIA_RUN/reached" ]; then cat "$GAIA_RUN/reached" >&2; exit 1; fi
echo "compose: no region reaches another but through a link"

# ------------------------------------------------------------------------------- the end

for _ in $(seq 240); do
    finished=0
    for region in "${regions[@]}"; do
        status "$region" >"$GAIA_RUN/status-$region.json" 2>/dev/null || true
        finished=$((finished + $( (grep -o '"phase": *"finished"' "$GAIA_RUN/status-$region.json" || true) | wc -l)))
    done
    if [ "$finished" = 15 ]; then break; fi
    for one in $(gaia_compose ps --quiet); do
        if [ "$(docker inspect --format '{{.State.Status}} {{.RestartCount}}' "$one")" != "running 0" ]; then
            docker inspect --format '{{.Name}} {{.State.Status}}, exit code {{.State.ExitCode}}' "$one" >&2
            exit 1
        fi
    done
    sleep 1
done
if [ "$finished" != 15 ]; then echo "after $((SECONDS - started)) s, $finished of 15 processes have finished" >&2; exit 1; fi
echo "compose: all 15 processes have finished, after $((SECONDS - started)) s"

# Links write their counters every second. What follows is of nearly the same moment: links say little when all is done.
sleep 2
for region in "${regions[@]}"; do status "$region" >"$GAIA_RUN/status-$region.json"; done
for link in "${links[@]}"; do
    cp "$GAIA_RUN/counters/$link/$link.json" "$GAIA_RUN/link-$link.json"
    # Docker's processes are this kernel's, where it runs on this machine and not in a virtual one.
    pid=$(docker inspect --format '{{.State.Pid}}' "$(container "link-$link")")
    if grep -q gaia "/proc/$pid/comm" 2>/dev/null; then cp "/proc/$pid/net/dev" "$GAIA_RUN/dev-$link"; fi
done

# Asked to stop, processes leave in order.
all=$(gaia_compose ps --quiet)
gaia_compose stop >/dev/null 2>&1
for one in $all; do
    ended=$(docker inspect --format '{{.State.ExitCode}} {{.RestartCount}} {{.State.OOMKilled}}' "$one")
    if [ "$ended" != "0 0 false" ]; then
        docker inspect --format '{{.Name}}: exit code {{.State.ExitCode}}, {{.RestartCount}} restarts' "$one" >&2
        exit 1
    fi
done
echo "compose: $(wc -w <<<"$all") containers stopped with exit code 0"
for region in "${regions[@]}"; do
    gaia_compose logs --no-color --no-log-prefix "$region-worker-0" 2>/dev/null | grep '^clock' | sed "s/^/$region: /"
done

"$binary" compare simulation.toml --quiet --json "$GAIA_RUN/simulation.json" \
    --set 'job.target={ metric = "objective", value = 0.25 }' >/dev/null
python3 verdict.py "$GAIA_RUN"
