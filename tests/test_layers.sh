#!/bin/sh
# SPDX-License-Identifier: MIT
# Dependencies point one way: greps every #include "folder/..." of src/host and compares with the table of docs/architecture.md.
cd "${SWD_SOURCE_DIR:-.}/src/host" || exit 1
allowed() {
    case $1 in
        base) echo "base" ;;
        tensor) echo "base tensor" ;;
        io) echo "base tensor io" ;;
        backend) echo "base tensor backend" ;;
        text) echo "base io text" ;;
        weights) echo "base tensor io backend weights" ;;
        model) echo "base tensor io backend weights model" ;;
        sample) echo "base tensor backend sample" ;;
        image) echo "base image" ;;
        parallel) echo "base tensor backend parallel" ;;
        pipeline) echo "base tensor io backend text weights model sample image parallel pipeline" ;;
        bench) echo "base tensor io backend text weights model sample image parallel pipeline bench" ;;
        train) echo "base tensor io backend text weights model sample image parallel train" ;;
        eval) echo "base tensor io backend text weights model sample image parallel pipeline eval" ;;
        *) echo "" ;;
    esac
}
bad=0
for folder in */; do
    folder=${folder%/}
    for line in $(grep -rhoE '^#include "[a-z_0-9]+/' --include='*.[ch]' --include='*.inc' "$folder" | sed 's/.*"//; s,/,,' | sort -u); do
        case " $(allowed "$folder") " in
            *" $line "*) ;;
            *)
                echo "src/host/$folder may not include $line/:"
                grep -rnE "^#include \"$line/" "$folder"
                bad=1
                ;;
        esac
    done
done
[ $bad = 0 ] && echo "layers: every include points down"
exit $bad
