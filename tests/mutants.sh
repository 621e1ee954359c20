#!/usr/bin/env bash
# Do the tests notice when a mechanism breaks? Applies one-line breaks to a copy of the code, one at a time, and runs the
# tests that should notice; a break that no test notices is a failure of the tests.
#
#   tests/mutants.sh [NAME...]
#   tests/mutants.sh --check [NAME...]    only whether each break still applies, which takes a second
#
# Takes one to two minutes for each break, which is why `cargo test` does not run it. CARGO_TARGET_DIR is shared by all of them
# (by default target/mutants), so that each rebuilds the crates of the workspace alone. Do not let ordinary builds use it:
# cargo may take a broken crate for theirs.
set -uo pipefail

root=$(git -C "$(dirname "$0")" rev-parse --show-toplevel)
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$root/target/mutants}
is_check=
if [[ ${1-} == --check ]]; then
  is_check=1
  shift
fi
copy=$(mktemp -d)
trap 'git -C "$root" worktree remove --force "$copy/gaia"' EXIT
git -C "$root" worktree add --quiet --detach "$copy/gaia" HEAD
cd "$copy/gaia" || exit 1

# Tests are named by what they are of: `laws`, `faults`, or `units`, those of the crate that the file is of.
targets() {
  case $1 in
    laws) echo --workspace --test laws --test stack ;;
    faults) echo --workspace --test faults ;;
    units) echo --package "${2%%/*}" --lib ;;
  esac
}

build_tests() {
  # shellcheck disable=SC2046
  cargo test --quiet $(targets "$1" "$2") --no-run 2>&1
}

# A cluster that never comes to rest is noticed too, so each gets its time.
run_tests() {
  # shellcheck disable=SC2046
  GAIA_SEEDS=${seeds[$1]-} timeout 300 cargo test --quiet $(targets "$1" "$2") 2>&1
}
declare -A seeds=([laws]=300)

# name | file | tests | perl expression, which must change the file
mutants=(
  'drop-a-batch|wan/src/outbox.rs|laws|s/(self\.in_flight_bytes \+= bytes;\n\s+self\.sent \+= 1;)/$1 if update.seq == 3 { self.in_flight.pop_back(); self.in_flight_bytes -= bytes; self.sent -= 1; }/'
  'ignore-barriers|wan/src/inbox.rs|laws|s/self\.awaited\.holds_any\(table, slots\)/let _ = (table, slots); false/'
  'free-before-all-came|wan/src/inbox/awaited.rs|laws|s/if seq <= through \{/if seq <= through || seq > 0 {/'
  'ignore-ds|wan/src/mirror_clock.rs|laws|s/own\.lead_over\(mirror\) > limit\)/own.lead_over(mirror) > limit.saturating_mul(1000).saturating_add(1000))/'
  'echo|wan/src/replica.rs|laws|s/(update\.deltas\.iter\(\)\.for_each\(\|delta\|) self\.shard\.apply\(delta\)\)/$1 { self.shard.apply(delta); self.filter.offer(delta) })/'
  'forget-coverage|wan/src/outbox.rs|laws|s/(self\.marks\.push_back\(\(self\.waiting\.tail\(\), clock, count\)\);)/$1 self.progress.covered = clock;/'
  'forget-repeats|wan/src/outbox.rs|laws|s/self\.sent = 0;/self.sent = self.in_flight.len();/'
  'forget-early-arrivals|wan/src/inbox.rs|laws|s/(self\.early_elements = elements;\n)\s+self\.early\.insert\(seq, update\.clone\(\)\);/$1/'
  'forget-what-is-held-back|wan/src/replica.rs|laws|s/self\.filter\.flush_all\(&mut self\.releases\.unshipped\);//'
  'unbounded-window|wan/src/node.rs|laws|s/let may_number = [^;]+;/let may_number = true;/'

  # Each safety of recovery, taken out.
  'no-duplicate-check|wan/src/inbox.rs|laws|s/if seq <= self\.through \|\| self\.early\.contains_key\(&seq\) \{/if false {/'
  'no-check-of-flushes|datacenter/src/shard.rs|units|s/if flush\.clock <= last \{/if false \&\& flush.clock <= last {/'
  'no-fencing-of-links|wan/src/replica/greeting.rs|units|s/if life < self\.mirrors\[peer\]\.numbering\.life \{/if false {/'
  'no-fencing-of-checkpoints|gaia/src/service/checkpoint/archive.rs|units|s/Ordering::Greater => \{\s+return Err\([^;]+;\s+\}/Ordering::Greater => true,/'
  'no-hash-check|gaia/src/service/checkpoint/format.rs|units|s/if is_intact\(file\) == Some\(false\) \{/if false \&\& is_intact(file) == Some(false) {/'
  'forget-clocks-that-were-heard|wan/src/replica/keeping.rs|units|s/mirror\.before\.clock = origin\.heard_clock;//'
  'trust-lives|wan/src/inbox.rs|units|s/find\(\|life\| \*life > MAX_LIFE\)/find(|_| false)/'
  'trust-clocks|wan/src/node.rs|units|s/find\(\|clock\| \*clock > end\)/find(|_| false)/'
  'no-grace-for-regions|wan/src/node/presence.rs|faults|s/if over <= now =>/if false \&\& over <= now =>/'
  'forget-who-was-sighted|wan/src/node/presence.rs|units|s/others\.max\(self\.detector\.sighted\[mirror\]\)/others/'
  'look-for-the-dead-once|wan/src/node/presence.rs|units|s/set\(Timer::Mirror\(mirror\), next\)/set(Timer::Mirror(mirror), None)/'
  'forget-reads-when-nobody-trains|wan/src/node/replicas.rs|units|s/self\.to_recheck\[at\] \|= state\(&self\.all\[at\]\) != before;//'
  'want-values-of-anybody|wan/src/replica/preview.rs|units|s/position\(Mirror::may_give_values\)/position(|_| true)/'
  'keep-the-place-of-the-dead|wan/src/node/greeting.rs|units|s/life_of\(mirror\) >= life/life_of(mirror) < u64::MAX/'
  'count-who-is-cut-off|wan/src/filter/soft.rs|units|s/Reachability::Away => self\.participation = Participation::Away,/Reachability::Away => self.factor = 1.0,/'
  'no-grace-for-those-who-are-behind|wan/src/replica/peer_state.rs|faults|s/self\.backlog\(\)\.is_some\(\)/false/'
  'excuse-for-ever|wan/src/replica/catching_up.rs|units|s/\(\) if inbox\.is_settled\(\) => None,/() if lag < u32::MAX => return,\n            () if inbox.is_settled() => None,/'
  'no-grace-for-workers|datacenter/src/lan/presence.rs|units|s/>= grace$/>= grace * 1000/m'
  'wait-for-who-has-yet-to-join|wan/src/driver/server.rs|units|s/self\.joined\.remove\(&worker\);//'
  'trust-counts-of-elements|datacenter/src/codec.rs|units|s/Ok\(count\) if count <= capacity =>/Ok(count) =>/'
  'trust-counts-of-shards|wan/src/wire.rs|units|s/if count_fields\(&frame, RESUMES_FIELD\)\? > MAX_HELLO_SHARDS \{/if false {/'
  'trust-sums-of-workers|datacenter/src/shard.rs|units|s/self\.check_sums\(flush\)\?;//'
  'trust-contributions-of-workers|wan/src/replica.rs|units|s/self\.check_flushed_sums\(flush, most\)\?;//'
  'trust-contributions-of-peers|wan/src/replica/sums.rs|units|s/value\.abs\(\) <= 2\.0 \* allowed && may_add\(sum, value, allowed\)/let _ = sum; true/'
  'round-to-nearest|datacenter/src/sums.rs|units|s/u64::from\(threshold >> 3\)/(1 << 28) + u64::from(threshold >> 31 >> 1)/'
  'offer-what-was-said|datacenter/src/shard.rs|laws|s/\*value = if change\.is_finite\(\) \{ change \} else \{ \*value \};/let _ = change;/'
  'begin-alone|wan/src/node/start.rs|units|s/let until = self\.detector\.since\? \+ self\.start\.wait\?;/let until = self.detector.since?;/'
  'begin-without-a-link|wan/src/node/start.rs|units|s/peer\.is_up\(\) && peer\.mirror == mirror/peer.mirror == mirror/'
  'decide-the-end-again|wan/src/driver/server.rs|units|s/if !\*self\.settled\.borrow\(\) && self\.node\.is_settled\(\) \{/self.settled.send_replace(false); if self.node.is_settled() {/'
  'forget-who-took-part|wan/src/inbox.rs|units|s/\(self\.reported, self\.arrived\) = \(former\.reported, former\.arrived\);//'
  'drop-what-rounding-leaves|wan/src/filter/measure.rs|units|s/accumulated\[index\] = a - shipped;/accumulated[index] = 0.0;/'
  'round-away-from-zero|wan/src/filter/measure.rs|units|s/\(a \/ step\)\.trunc\(\) \* step/(a \/ step).abs().ceil().copysign(a) * step/'
  'anticipate-what-has-come|wan/src/anticipation.rs|units|s/take_out\(&mut self\.tables, release, 1\.0, changed\);//'
  'anticipate-the-gone|wan/src/anticipation.rs|units|s/let through = clock\.unwrap_or\(Clock\(u32::MAX\)\);/let through = clock.unwrap_or(from);/'
  'oppose-alone|wan/src/anticipation.rs|units|s/let gain = match is_opposed \{/let gain = match is_opposed \&\& table.estimate(answered).is_some_and(|e| e < 0.0) {/'
  'speak-rarely-though-opposed|wan/src/cadence.rs|units|s/_ => 1,\n/_ => self.every,\n/'
  'speak-rarely-at-first|wan/src/cadence.rs|units|s/most\.min\(clock\.0 \/ PART\)/most/'
  'hold-back-much-at-first|wan/src/leeway.rs|units|s/\.min\(self\.most\)//'
  'hold-back-as-much-though-opposed|wan/src/leeway.rs|units|s/if opposed \{ TIGHT \}/if false { TIGHT }/'
  'charge-a-budget-with-payload-alone|wan/src/node.rs|units|s/replica\.charge\(link\.mirror, share\)/drop((replica, share))/'
  'release-beyond-a-budget|wan/src/filter.rs|units|s/self\.release_raised\(t, values, fit, out\)/self.release_raised(t, values, Fit::NONE, out)/'
  'spend-what-is-not-there|wan/src/budget.rs|units|s/self\.bucket\.level\(\) >= 0\.0\n/true\n/'
  'ask-again-at-once|wan/src/node.rs|units|s/let budget_at = budget_at\.filter\(\|_\| has_window\);//; s/let may_spend = replica\.may_spend/let may_spend = may_number \&\& replica.may_spend/'
  'let-clocks-wait-for-themselves|wan/src/budget.rs|laws|s/ \|\| matches!\(self\.limit, Limit::BytesPerClock\(_\)\)//'
  'trust-what-is-not-known|wan/src/leeway.rs|units|s/likeness\.is_some_and/likeness.is_none_or/'
  'ship-what-rounding-leaves-over-twice|wan/src/filter/measure.rs|units|s/accumulated\[index\] = a - shipped/accumulated[index] = a/'
  'confirm-in-packets-of-their-own|wan/src/node/pace.rs|units|s/\* replica\.release_every\(\) \* 5/* 0/'
  'keep-who-wants-to-go-waiting|wan/src/node.rs|units|s/if self\.is_paused\(peer\) \{/if false {/'
  'state-nothing-at-the-end|wan/src/replica.rs|units|s/self\.state_what_is_unstated\(\);//'
  'trust-gaps|wan/src/inbox.rs|units|s/self\.check_gap\("update", seq\)\?;//'

  # What has been counted, taken back.
  'charge-naive-for-the-gone|wan/src/replica/releases.rs|units|s/\.filter\(\|mirror\| !mirror\.state\.is_away\(\)\)//'
  'forget-counts-that-were-told|gaia/src/service/checkpoint/archive.rs|units|s/Ok\(counts\) => self\.count\(&counts\),/Ok(_) => {}/'
  'count-anew-from-checkpoints|gaia/src/service/checkpoint/archive.rs|units|s/self\.count\(&checkpoint\.counts\);//'
  'trust-the-sender-alone|gaia/src/service/status/totals.rs|units|s/link\.sent_bytes\.max\(link\.arrived_bytes\)/link.sent_bytes/'
  'take-back-what-was-repeated|wan/src/driver/link/traffic.rs|units|s/\.max\(self\.repeated_bytes\)//'
)

chosen=()
for mutant in "${mutants[@]}"; do
  IFS='|' read -r name _ <<<"$mutant"
  if (($# == 0)) || [[ " $* " == *" $name "* ]]; then chosen+=("$mutant"); fi
done

for name in "$@"; do
  if [[ $(printf '%s\n' "${chosen[@]}") != *"$name|"* ]]; then
    echo "$name: found in the command; allowed: $(printf '%s\n' "${mutants[@]}" | cut -d'|' -f1 | paste -sd' ')"
    exit 2
  fi
done

# A break whose place has gone tries nothing.
missed=0
for mutant in "${chosen[@]}"; do
  IFS='|' read -r name file _ <<<"$mutant"
  if [[ ! -f $file ]] || perl -0pe "${mutant#*|*|*|}" "$file" | cmp --quiet - "$file"; then
    echo "$name: the break no longer applies to $file"
    missed=1
  fi
done
if ((missed)) || [[ $is_check ]]; then
  exit $missed
fi

# Tests that fail without a break would notice anything.
whole=$(printf '%s\n' "${chosen[@]}" | awk -F'|' '{ split($2, crate, "/"); print $3 "|" ($3 == "units" ? crate[1] : "") }' | sort -u)
for suite in $whole; do
  IFS='|' read -r tests crate <<<"$suite"
  if ! build_tests "$tests" "$crate" || ! output=$(run_tests "$tests" "$crate"); then
    echo "the tests of $tests $crate fail without any break: ${output-}"
    exit 1
  fi
done

printf '%-28s %-10s %s\n' mutant noticed 'by'
for mutant in "${chosen[@]}"; do
  IFS='|' read -r name file tests _ <<<"$mutant"
  expression=${mutant#*|*|*|}
  git checkout --quiet . && perl -0pi -e "$expression" "$file"
  if ! output=$(build_tests "$tests" "$file"); then
    printf '%-28s %-10s %s\n' "$name" '?' 'the break does not compile'
    missed=1
    continue
  fi
  output=$(run_tests "$tests" "$file")
  status=$?
  failed=$(grep -oE 'law [1-7]|^---- [a-z_:]+' <<<"$output" | sed 's/---- //' | sort -u | head -4 | paste -sd' ')
  if ((status == 0)); then
    printf '%-28s %-10s\n' "$name" NO
    missed=1
  else
    printf '%-28s %-10s %s\n' "$name" yes "${failed:-$( ((status == 124)) && echo 'it never ends' || echo 'other checks')}"
  fi
done
exit $missed
