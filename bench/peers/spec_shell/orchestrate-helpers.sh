# The helpers that the specification (orchestrator-recovery.md) calls, written as it implies them:
# state is read with cat, changed with jq and written back in place; agents are typed into idle
# panes; an issue has ended when issue-N.exit is there. Kept as naive as the text, never slower.

ORCH_ROOT=.workspace/orchestrate

orch_state_read() { # AREA
  cat "$ORCH_ROOT/$1/batch.state.json"
}

orch_state_update() { # AREA FILTER: in place, so a crash in the middle leaves it empty (erratum 7)
  local changed
  changed=$(jq "$2" "$ORCH_ROOT/$1/batch.state.json") || return 1
  printf '%s\n' "$changed" >"$ORCH_ROOT/$1/batch.state.json"
}

orch_status_set() { # AREA ISSUE STATUS
  orch_state_update "$1" ".status[\"$2\"] = \"$3\" | del(.dispatched[\"$2\"])"
}

orch_unblock() { # AREA ISSUE: its dependents whose dependencies have all ended become pending
  local ready issue
  ready=$(orch_state_read "$1" | jq -r --arg ended "$2" '. as $s
    | .dag | to_entries[] | select(.value | map(tostring) | index($ended))
    | select($s.status[.key] == "blocked")
    | select(all(.value[]; $s.status[tostring] as $it | $it == "completed" or $it == "failed"))
    | .key')
  for issue in $ready; do
    orch_status_set "$1" "$issue" pending
  done
}

orch_pane_alive() { # PANE
  tmux list-panes -a -F '#{pane_id}' | grep -qxF -- "$1"
}

orch_find_idle_panes() { # ORCH_PANE: every other pane of the session in which a shell waits
  tmux list-panes -s -F '#{pane_id} #{pane_current_command}' \
    | awk -v own="$1" '$1 != own && $2 == "bash" { print $1 }'
}

orch_dispatch() { # ISSUE PANE AREA_DIR AGENT
  tmux send-keys -t "$2" \
    "if $4 $1; then echo ok; else echo failed; fi >'$PWD/$3/issue-$1.exit'" Enter
}

orch_record_dispatch() { # AREA ISSUE PANE
  orch_state_update "$1" ".status[\"$2\"] = \"dispatched\"
    | .dispatched[\"$2\"] = ((.dispatched[\"$2\"] // {retryCount: 0}) + {pane: \"$3\"})"
}

orch_check_completion() { # ISSUE AREA_DIR
  local said
  if [ ! -s "$2/issue-$1.exit" ]; then
    echo running
    return
  fi
  read -r said <"$2/issue-$1.exit"
  [ "$said" = ok ] && echo completed || echo failed
}

orch_dispatch_to_idle() { # AREA AREA_DIR AGENT ORCH_PANE ISSUE: fails when no pane is idle
  local pane busy
  busy=" $(orch_state_read "$1" | jq -r '[.dispatched[].pane] | join(" ")') "
  for pane in $(orch_find_idle_panes "$4"); do
    case $busy in *" $pane "*) continue ;; esac # typed into a moment ago
    orch_dispatch "$5" "$pane" "$2" "$3" && orch_record_dispatch "$1" "$5" "$pane" && return 0
  done
  return 1
}

orch_poll_cycle() { # AREA AREA_DIR AGENT ORCH_PANE
  local state issue result pane
  state=$(orch_state_read "$1")
  for issue in $(echo "$state" | jq -r '.dispatched | keys[]'); do
    result=$(orch_check_completion "$issue" "$2")
    if [ "$result" != running ]; then
      orch_status_set "$1" "$issue" "$result"
      orch_unblock "$1" "$issue"
      continue
    fi
    pane=$(echo "$state" | jq -r ".dispatched[\"$issue\"].pane")
    orch_pane_alive "$pane" && continue
    if [ "$(echo "$state" | jq -r ".dispatched[\"$issue\"].retryCount // 0")" -ge 1 ]; then
      echo "issue $issue died twice" >&2
      orch_status_set "$1" "$issue" failed
      orch_unblock "$1" "$issue"
    elif orch_dispatch_to_idle "$1" "$2" "$3" "$4" "$issue"; then
      orch_state_update "$1" \
        ".dispatched[\"$issue\"].retryCount = ((.dispatched[\"$issue\"].retryCount // 0) + 1)"
    fi
  done
  for issue in $(orch_state_read "$1" | jq -r '. as $s
    | .issues[] | tostring | select(($s.status[.] // "pending") == "pending")'); do
    orch_dispatch_to_idle "$1" "$2" "$3" "$4" "$issue" || break
  done
}
