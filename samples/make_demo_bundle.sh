#!/usr/bin/env bash
# Makes samples/demo.shortcast again: the model of docs/results.md, exported. Where `make paper` has been run its model is taken; else
# that model alone is trained, without what it is compared with: about 25 minutes on two cores. Everything random follows from the seeds;
# interrupted, it goes on where it stopped. SHORTCAST_PAPER names another work folder than build/paper. Run it with shortcast installed
# for development.
set -euo pipefail
cd "$(dirname "$0")/.."
work=${SHORTCAST_PAPER:-build/paper}
clips=$work/clips/manifest.jsonl
mkdir -p "$work"
[ -e "$clips" ] || shortcast data synth -o "$work/clips" --clips 1600 --seed 7
if [ ! -e "$work/trained" ]; then
    shortcast train "$clips" -o "$work/model" --force --seed 7 --epochs-autoencoder 16 --chunks-per-epoch 400 \
        --source "1,600 synthetic clips made by 'shortcast data synth --seed 7': it shows how shortcast works and knows nothing of real videos"
fi
shortcast export "$work/model" -o samples/demo.shortcast --golden samples/sample.mp4 --precision fp16 --precision int8 --clip "$work/clips" --force
SHORTCAST_SETTLING=$work/settling samples/settle_demo_bundle.sh
