#!/usr/bin/env bash
# Makes samples/demo.shortcast again: synthetic clips, training, export. Everything random follows from the seeds.
# About a quarter of an hour on two cores; interrupted, it goes on where it stopped. Run it with shortcast installed for development.
set -euo pipefail
cd "$(dirname "$0")/.."
work=build/demo
mkdir -p $work
shortcast data synth -o $work/clips --clips 800 --seed 7
shortcast train $work/clips/manifest.jsonl -o $work/model --force --seed 7 --epochs-autoencoder 8 \
    --source "800 synthetic clips made by 'shortcast data synth --seed 7': it shows how shortcast works and knows nothing of real videos"
shortcast export $work/model -o samples/demo.shortcast --golden samples/sample.mp4 --force
