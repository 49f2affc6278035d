#!/usr/bin/env bash
# A video to a moving scene as one web page.
#
#     examples/video_to_web_page.sh page4d room/video.mp4 out [steps]
set -euo pipefail
weights=$1 video=$2 output=$3 steps=${4:-1000}

page4d reconstruct "$video" --model "$weights" --max-frames 50 --output "$output/scene"
ns-train page4d-4dgs --data "$output/scene" --output-dir "$output/runs" --experiment-name web --timestamp last \
    --max-num-iterations "$steps" --vis tensorboard
page4d share --load-config "$output/runs/web/page4d-4dgs/last/config.yml" --output "$output/scene.html"
