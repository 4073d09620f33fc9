#!/usr/bin/env bash
# Makes the figures of docs/results.md again: synthetic clips, training with every baseline and ablation, evaluation, tables.
# 93 minutes on two cores, an hour of it for r3d_18 and swin3d_t. What is done is not done again; interrupted, it goes on where it
# stopped. SHORTCAST_PAPER names another work folder than build/paper. Run it with shortcast installed for development.
set -euo pipefail
cd "$(dirname "$0")/.."
work=${SHORTCAST_PAPER:-build/paper}
clips=$work/clips/manifest.jsonl
mkdir -p "$work"
[ -e "$clips" ] || shortcast data synth -o "$work/clips" --clips 1600 --seed 7
if [ ! -e "$work/trained" ]; then  # a model alone may be one without its baselines
    shortcast train "$clips" -o "$work/model" --force --seed 7 --epochs-autoencoder 16 --chunks-per-epoch 400 --ablations \
        --video-baseline small3d --video-baseline r3d_18 --video-baseline swin3d_t --video-size 16x80x48 \
        --source "1,600 synthetic clips made by 'shortcast data synth --seed 7': it shows how shortcast works and knows nothing of real videos"
    touch "$work/trained"
fi
[ "$work/report/report.json" -nt "$work/trained" ] || shortcast evaluate "$work/model" "$clips" -o "$work/report" --force --outliers
python -m shortcast.benchmarks.paper_table "$work/report" "$clips"
