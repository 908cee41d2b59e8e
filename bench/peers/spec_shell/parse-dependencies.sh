#!/usr/bin/env bash
# `--check-cycles ISSUES_FILE DAG_FILE`: exits 1 when the DAG has a cycle. The specification passes
# the JSON itself as arguments; 10,000 issues do not fit there (Linux: 128 KiB an argument).
set -euo pipefail
[ "$1" = --check-cycles ]
jq -r --slurpfile issues "$2" 'to_entries[] | .key as $n | .value[] | "\(.) \($n)"' "$3" \
  | tsort >/dev/null
