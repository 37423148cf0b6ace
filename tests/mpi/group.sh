#!/bin/sh
# SPDX-License-Identifier: MIT
# The group of processes, in 1, 2 and 4 of them, and without mpirun. usage: group.sh MPIRUN TEST_GROUP MODULE [EMULATED], the last one linked with an emulated GPU
set -u
mpirun=$1 program=$2 module=$3
"$mpirun" --oversubscribe --bind-to none -n 2 true || { echo "mpirun starts no processes on this machine"; exit 77; }
run() { # processes, work
    "$mpirun" --oversubscribe --bind-to none -n "$1" "$program" "$module" "$2" || { echo "FAILED: $2 in $1 processes"; exit 1; }
}
run 1 sums
run 2 sums
for work in sums list fails differ; do run 4 $work; done
if [ $# = 4 ]; then
    program=$4
    run 2 sums
    program=$2
fi
module=/nowhere # nothing is looked for
"$program" "$module" sums || { echo "FAILED: without mpirun"; exit 1; }
export SWD_PARALLEL=off
run 2 sums
