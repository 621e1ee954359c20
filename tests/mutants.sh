#!/usr/bin/env bash
# Do the tests notice when a mechanism breaks? Applies one-line breaks to a copy of the code, one at a time, and runs the
# tests of the laws on each; a break that no test notices is a failure of the tests.
#
#   tests/mutants.sh [NAME...]
#
# Takes about a minute for each break, which is why `cargo test` does not run it. CARGO_TARGET_DIR is shared by all of them
# (by default target/mutants), so that each rebuilds the crates of the workspace alone. Do not let ordinary builds use it:
# cargo may take a broken crate for theirs.
set -uo pipefail

root=$(git -C "$(dirname "$0")" rev-parse --show-toplevel)
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$root/target/mutants}
copy=$(mktemp -d)
trap 'git -C "$root" worktree remove --force "$copy/gaia"' EXIT
git -C "$root" worktree add --quiet --detach "$copy/gaia" HEAD
cd "$copy/gaia" || exit 1

run_tests() {
  # A cluster that never comes to rest is noticed too, so it is given a minute.
  GAIA_SEEDS=300 timeout 60 cargo test --quiet -p gaia-tests --test stack 2>&1 &&
    timeout 60 cargo test --quiet -p gaia-tests --test laws 2>&1
}

# Tests that fail without a break would notice anything.
if ! cargo test --quiet -p gaia-tests --test laws --test stack --no-run || ! output=$(run_tests); then
  echo "the tests fail without any break: ${output-}"
  exit 1
fi

# name | file | perl expression, which must change the file
mutants=(
  'drop-a-batch|wan/src/outbox.rs|s/(self\.in_flight_bytes \+= bytes;\n\s+self\.sent \+= 1;)/$1 if update.seq == 3 { self.in_flight.pop_back(); self.in_flight_bytes -= bytes; self.sent -= 1; return self.poll_update(); }/'
  'skip-the-duplicate-check|wan/src/inbox.rs|s/if seq <= self\.through \|\| !self\.beyond\.insert\(seq\) \{\s+return false;/if seq <= self.through || !self.beyond.insert(seq) { return true;/'
  'ignore-barriers|wan/src/inbox.rs|s/self\.awaited\.holds_any\(table, slots\)/let _ = (table, slots); false/'
  'free-before-all-came|wan/src/inbox/awaited.rs|s/if seq <= through \{/if seq <= through || seq > 0 {/'
  'ignore-ds|wan/src/mirror_clock.rs|s/limit\.is_some_and\(\|limit\| own\.lead_over\(mirror\) > limit\)/limit.is_some_and(|limit| own.lead_over(mirror) > limit.saturating_mul(1000).saturating_add(1000))/'
  'echo|wan/src/replica.rs|s/(update\.deltas\.iter\(\)\.for_each\(\|delta\|) self\.shard\.apply\(delta\)\)/$1 { self.shard.apply(delta); self.filter.offer(delta) })/'
  'forget-coverage|wan/src/outbox.rs|s/(self\.marks\.push_back\(\(self\.waiting\.tail\(\), clock\)\);)/$1 self.progress.covered = clock;/'
  'forget-repeats|wan/src/outbox.rs|s/self\.sent = 0;/self.sent = self.in_flight.len();/'
  'forget-early-arrivals|wan/src/inbox.rs|s/self\.beyond\.pop_first\(\);\s+self\.through \+= 1;/self.beyond.pop_first(); self.through += 2;/'
  'forget-what-is-held-back|wan/src/replica.rs|s/self\.filter\.flush_all\(&mut self\.released\);//'
  'unbounded-window|wan/src/node.rs|s/let may_number = [^;]+;/let may_number = true;/'
)

printf '%-28s %-10s %s\n' mutant noticed 'by'
missed=0
for mutant in "${mutants[@]}"; do
  IFS='|' read -r name file _ <<<"$mutant"
  expression=${mutant#*|*|}
  if (($#)) && [[ " $* " != *" $name "* ]]; then continue; fi
  git checkout --quiet . && perl -0pi -e "$expression" "$file"
  if git diff --quiet; then
    printf '%-28s %-10s %s\n' "$name" '?' "the break no longer applies to $file"
    missed=1
    continue
  fi
  if ! output=$(cargo test --quiet -p gaia-tests --test laws --test stack --no-run 2>&1); then
    printf '%-28s %-10s %s\n' "$name" '?' 'the break does not compile'
    missed=1
    continue
  fi
  output=$(run_tests)
  status=$?
  failed=$(grep -oE 'law [1-6]|^---- [a-z_]+' <<<"$output" | sed 's/---- //' | sort -u | head -4 | paste -sd' ')
  if ((status == 0)); then
    printf '%-28s %-10s\n' "$name" NO
    missed=1
  else
    printf '%-28s %-10s %s\n' "$name" yes "${failed:-$( ((status == 124)) && echo 'it never ends' || echo 'other checks')}"
  fi
done
exit $missed
