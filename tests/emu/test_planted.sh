#!/bin/sh
# SPDX-License-Identifier: MIT
# test_planted.sh PROGRAM SANITIZERS COMPILER: every bug of emu_planted is caught, with the message below, in one of a few orders of
# execution at the latest; without its bug each case is right in all of them, and nothing is reported.
#
# case, the build that sees it (any, asan, tsan; gcc: only it can clear the padding of a struct before its words are read), what is printed
table='
missing_barrier         any   wrong result|data race
write_after_read        any   wrong result|data race
wait_count              any   wrong result|data race
copies_of_others        any   wrong result|data race
early_copy              any   wrong result|data race
missing_syncwarp        any   wrong result|data race
static_bounds           any   wrote past an array of 256 bytes|out of bounds|use-after-poison
dynamic_bounds          any   past the 128 bytes of dynamic shared memory|use-after-poison
read_past               any   outside of device memory: .*byte 40[0-9]* of an allocation of 4096|use-after-poison
read_before             any   outside of device memory|use-after-poison
write_past              any   outside of device memory: .*byte 10[0-9]* of an allocation of 1024|use-after-poison
diverging               any   lanes of a warp diverge: __shfl_xor_sync meets __shfl_xor_sync of .*planted_kernels.cu:
lane_not_in_mask        any   __shfl_sync: the calling lane is not in mask ffff0000
source_not_in_mask      any   reads lane 20, which is not in mask 0000ffff
lane_exited             any   lane 7 exits while its warp waits for it in warp_sum|names lanes that have exited .00000080
exit_while_others_wait  any   a thread exits while others wait|names lanes that have exited|exits while its warp waits
barrier_after_exit      any   __syncthreads after a thread has exited|a thread exits while others wait
different_barriers      any   meet in different barriers
deadlock                any   waits in a named barrier.*planted_kernels.cu:|deadlock
barrier_zero            any   ids are 1..15
misaligned_load         any   load4: address .* is not aligned to 16 bytes
misaligned_cp_async     any   cp_async16.s source: address .* is not aligned to 16
misaligned_ldmatrix     any   ldmatrix: address .* is not aligned to 16
unset_shared            any   wrong result: y.0. = -?nan
lost_update             tsan  data race
blocks_race             tsan  data race
stack                   any   needs more stack|stack-overflow
static_and_dynamic      any   static .16384. and dynamic .40960 bytes. shared memory exceed 49152
too_much_shared         any   the runtime says: cudaErrorInvalidValue
without_attribute       any   the runtime says: cudaErrorInvalidValue
missing_event           any   wrong result
event_too_early         any   wrong result
missing_synchronize     any   wrong result
source_changed          any   wrong result
unset_global            any   wrong result: y.0. = -?nan
host_reads              any   host code touches device memory: .*byte 12 of an allocation of 1024
host_writes             any   host code touches device memory
use_after_free          any   device memory is used after its free
use_before_allocation   any   used before its allocation
double_free             any   which is freed already
host_argument           any   a kernel.s argument, .* is no memory of the device
host_pointer_in_struct  gcc   is host memory
freed_argument          any   is device memory that was freed
copy_too_long           any   the (source|destination) of a copy: 1028 bytes
copy_kind               any   the runtime says: cudaErrorInvalidValue
write_into_padding      any   written outside: byte 1020 of an allocation of 1020|use-after-poison
last_block              tsan  data race
graph_fork              any   wrong result
graph_unjoined          any   the runtime says: cudaErrorStreamCaptureUnjoined
synchronize_in_capture  any   the runtime says: cudaErrorStreamCaptureUnsupported
call_in_callback        any   a call of the runtime from within an operation
'
program=$1 sanitizers=$2 compiler=$3
ulimit -c 0
export ASAN_OPTIONS=detect_leaks=0 TSAN_OPTIONS=halt_on_error=1:atexit_sleep_ms=0
orders='order:1 reverse:1 pct:1 pct:2 pct:3 random:1'
good_orders=$orders
case $sanitizers in *thread*) good_orders='order:1 pct:1' ;; esac # half a second each
failed=0
count=0
tmp=$(mktemp)
trap 'rm -f "$tmp"' EXIT

run() { # order, case, good or bad: the output in $tmp
    EMU_SCHED=${1%:*} EMU_SEED=${1#*:} "$program" "$2" "$3" >"$tmp" 2>&1
}
wrong() {
    echo "FAILED: $1"
    sed 's/^/    /' "$tmp" | head -n 12
    failed=$((failed + 1))
}
one() { # case, build, pattern
    count=$((count + 1))
    for o in $good_orders; do
        run "$o" "$1" good || { wrong "$1 without its bug, $o"; return; }
    done
    case $2,$sanitizers,$compiler in
        any,* | asan,*address*,* | tsan,*thread*,* | gcc,*,gcc) ;;
        *) return ;;
    esac
    for o in $orders; do
        run "$o" "$1" bad && continue
        grep -qE -e "$3" "$tmp" || { wrong "$1, $o: caught, but without \"$3\""; return; }
        # Fatal in a kernel: where, and how to get there again.
        if grep -q 'EMU ERROR' "$tmp"; then
            grep -q "EMU_SCHED=${o%:*} EMU_SEED=${o#*:}" "$tmp" || { wrong "$1, $o: no seed"; return; }
        fi
        return
    done
    wrong "$1: not caught"
}
while read -r name build pattern; do
    [ -n "$name" ] && one "$name" "$build" "$pattern"
done <<END
$table
END
listed=$("$program" | sort)
known=$(echo "$table" | awk 'NF { print $1 }' | sort)
[ "$listed" = "$known" ] || { : >"$tmp"; wrong "the table and the program have different cases"; }
echo "$count bugs, $failed failed"
[ "$failed" = 0 ]
