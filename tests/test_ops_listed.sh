#!/bin/sh
# SPDX-License-Identifier: MIT
# Every op of ops.h has cases: compares its declarations with the list that run_ops was built with.
declared=$(grep -oE '^swd_status op_[a-z0-9_]+' "${SWD_SOURCE_DIR:-.}/src/host/backend/ops.h" | sed 's/.* //' | sort)
listed=$("$1" --ops | sort -u)
[ -n "$declared" ] || { echo "no op is declared: has ops.h moved?"; exit 1; }
[ "$declared" = "$listed" ] && echo "$(echo "$declared" | wc -l) ops, each with cases" && exit 0
echo "declared in ops.h, or with cases, but not both:"
printf '%s\n%s\n' "$declared" "$listed" | sort | uniq -u
exit 1
