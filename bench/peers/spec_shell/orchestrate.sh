#!/usr/bin/env bash
# The specification's recovery steps 1 to 3, in its order and with its snippets: usage AREA.
# Differences, all in its favour: errata 1 and 5 are mended (else it would end after one cycle and
# retry for ever), the poll cycle does not sleep 30 s, and step 4 leaves the finished state alone.
set -uo pipefail
HERE=$(dirname "${BASH_SOURCE[0]}")
. "$HERE/orchestrate-helpers.sh"
AREA=$1
AREA_DIR=.workspace/orchestrate/$AREA

# Step 1: read the state, take over.
STATE=$(orch_state_read "$AREA")
AGENT=$(echo "$STATE" | jq -r '.agent')
ORCH_PANE=$(tmux display-message -p '#{pane_id}')
orch_state_update "$AREA" ".orchestratorPane = \"$ORCH_PANE\""

# DAG integrity.
if ! bash "$HERE/parse-dependencies.sh" --check-cycles \
  <(echo "$STATE" | jq '.issues') <(echo "$STATE" | jq '.dag'); then
  echo "[recovery] the DAG has a cycle" >&2
  exit 1
fi

# Step 2: reconcile what was dispatched.
for ISSUE in $(echo "$STATE" | jq -r '.dispatched | keys[]'); do
  RESULT=$(orch_check_completion "$ISSUE" "$AREA_DIR")
  if [ "$RESULT" = completed ] || [ "$RESULT" = failed ]; then
    orch_status_set "$AREA" "$ISSUE" "$RESULT"
    orch_unblock "$AREA" "$ISSUE"
  else
    PANE=$(echo "$STATE" | jq -r ".dispatched[\"$ISSUE\"].pane")
    if ! orch_pane_alive "$PANE"; then
      echo "[recovery] Pane $PANE for #$ISSUE is dead; re-dispatching"
      orch_dispatch_to_idle "$AREA" "$AREA_DIR" "$AGENT" "$ORCH_PANE" "$ISSUE" \
        && orch_state_update "$AREA" ".dispatched[\"$ISSUE\"].retryCount += 1"
    fi
  fi
done

# Per-status recovery: "completed", "failed": re-run orch_unblock (idempotent).
for ISSUE in $(echo "$STATE" | jq -r '.status | to_entries[]
    | select(.value == "completed" or .value == "failed") | .key'); do
  orch_unblock "$AREA" "$ISSUE"
done

# Step 3: the poll loop.
while true; do
  orch_poll_cycle "$AREA" "$AREA_DIR" "$AGENT" "$ORCH_PANE"
  ALL_DONE=$(orch_state_read "$AREA" | jq -r '. as $s
    | .issues | map(tostring) | .[] as $n
    | $s.status[$n] // "pending" | select(. == "pending" or . == "dispatched" or . == "blocked")
  ' | wc -l)
  [ "$ALL_DONE" -eq 0 ] && break
done
