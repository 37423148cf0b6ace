#!/bin/sh
# SPDX-License-Identifier: MIT
# The group of processes, in 1, 2 and 4 of them, and without mpirun. usage: group.sh MPIRUN TEST_GROUP MODULE
set -u
mpirun=$1 program=$2 module=$3
run() { # processes, work
    "$mpirun" --oversubscribe --bind-to none -n "$1" "$program" "$module" "$2" || { echo "FAILED: $2 in $1 processes"; exit 1; }
}
run 1 sums
run 2 sums
for work in sums list fails differ; do run 4 $work; done
"$program" /nowhere sums || { echo "FAILED: alone, where no module is looked for"; exit 1; }
