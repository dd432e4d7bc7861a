#!/bin/bash
# End what up.sh started, newest first, by the process numbers it wrote down: tests/slurm/down.sh STATE_DIR
gone() { case "$(ps -o stat= -p "$1")" in "" | Z*) return 0 ;; esac; return 1; }
tac "${1:?usage: down.sh STATE_DIR}/pids" | while read -r process; do
    kill "$process" 2>/dev/null
    for _ in $(seq 100); do gone "$process" && break; sleep 0.1; done
    gone "$process" || echo "still there: $process"
done
