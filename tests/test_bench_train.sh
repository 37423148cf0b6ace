#!/bin/sh
# SPDX-License-Identifier: MIT
# bench_train ($1) still runs an iteration; with "plan": the memory that docs/training.md tells is what it plans for a device.
set -eu
root=${SWD_SOURCE_DIR:-.}
if [ "${2:-}" != plan ]; then
    "$1" --batch 2 --side 8 --low 4 --text 4 --steps 1 "$root/weights/emoji" 2>&1 | grep -q '^[0-9.]* s, .*, loss [0-9.]*$' || { echo "FAILED: an iteration"; exit 1; }
    exit 0
fi
plan=$("$1" --device cuda --plan sd3.5-medium)
rows=$(grep -E '^\| [0-9]+ \| (kept|computed again) ' "$root/docs/training.md")
echo "$rows" | while read -r row; do
    echo "$plan" | grep -qxF "$row" || { echo "FAILED: docs/training.md says $row, the plan $plan"; exit 1; }
done
echo "bench_train: $(echo "$rows" | wc -l) rows of docs/training.md as planned"
