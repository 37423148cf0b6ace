#!/bin/sh
# SPDX-License-Identifier: MIT
# docs/memory.md has the table that the program given prints.
"$1" > memory_table.txt || exit 1
missing=0
while IFS= read -r line; do
    grep -qxF -- "$line" "$SWD_SOURCE_DIR/docs/memory.md" || { echo "docs/memory.md lacks: $line"; missing=1; }
done < memory_table.txt
[ "$(grep -c '^| ' memory_table.txt)" -gt 20 ] || { echo "a short table"; exit 1; }
exit $missing
