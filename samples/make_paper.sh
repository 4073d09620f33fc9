#!/usr/bin/env bash
# Makes the figures of docs/results.md again: synthetic clips, training with every baseline and ablation, evaluation, tables.
# Many hours on two cores, most of them for r3d_18 and swin3d_t. What is done is not done again; interrupted, it goes on where it
# stopped. SHORTCAST_PAPER names another work folder than build/paper. Run it with shortcast installed for development.
set -euo pipefail
cd "$(dirname "$0")/.."
work=${SHORTCAST_PAPER:-build/paper}
mkdir -p "$work"
[ -e "$work/clips/manifest.jsonl" ] || shortcast data synth -o "$work/clips" --clips 1600 --seed 7
[ -e "$work/model" ] || shortcast train "$work/clips/manifest.jsonl" -o "$work/model" --seed 7 \
    --epochs-autoencoder 16 --chunks-per-epoch 400 --ablations \
    --video-baseline small3d --video-baseline r3d_18 --video-baseline swin3d_t \
    --source "1,600 synthetic clips made by 'shortcast data synth --seed 7': it shows how shortcast works and knows nothing of real videos"
[ -e "$work/report/report.json" ] || shortcast evaluate "$work/model" "$work/clips/manifest.jsonl" -o "$work/report" --outliers
python -m shortcast.benchmarks.paper_table "$work/report" "$work/clips/manifest.jsonl"
