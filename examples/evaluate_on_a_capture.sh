#!/usr/bin/env bash
# Depth and cameras against a capture's ground truth, beside trivial predictors. Captures lie in one folder, each in the
# layout of Nerfies: here one that `page4d synth captures/room` made.
#
#     examples/evaluate_on_a_capture.sh page4d captures runs/evaluation
set -euo pipefail
weights=$1 captures=$2 output=$3

for task in video-depth pose; do
    python evaluation/evaluate.py $task --trivial --dataset nerfies --data-root "$captures" --output "$output/$task/trivial"
    python evaluation/evaluate.py $task --model "$weights" --dataset nerfies --data-root "$captures" --output "$output/$task/page4d"
done
