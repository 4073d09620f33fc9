#!/usr/bin/env bash
# Installs onnxruntime and onnxruntime-gpu into one scratch environment, as `pip install "shortcast[cuda]"` does, and shows what comes of
# it, that shortcast says so, and that the one-line cure cures it. Downloads some 400 MB, needs no GPU, and takes minutes; run it by hand:
#
#     SHORTCAST_ORT_CLASH=1 tests/ort_clash.sh [FOLDER]
set -euo pipefail

if [ -z "${SHORTCAST_ORT_CLASH:-}" ]; then
    echo "skipped: set SHORTCAST_ORT_CLASH=1 to install both packages into a scratch environment"
    exit 0
fi
root=$(cd "$(dirname "$0")/.." && pwd)
folder=${1:-$(mktemp -d)}
python=${PYTHON:-python3}
"$python" -m venv "$folder"
bin=$folder/bin
say() { printf '\n== %s\n' "$*"; }
providers() { "$bin/python" -W ignore -c 'import onnxruntime as o; print(o.__version__, o.get_available_providers())' 2>&1 | tail -1; }
must() { grep -q "$1" <<<"$2" || { echo "FAILED: expected '$1' in: $2"; exit 1; }; }
must_not() { ! grep -q "$1" <<<"$2" || { echo "FAILED: did not expect '$1' in: $2"; exit 1; }; }
doctor() { "$bin/python" -m shortcast doctor 2>&1 || true; }
score() { "$bin/python" -m shortcast score "$root/samples/sample.mp4" --no-sound --format jsonl --engine onnxruntime --device cuda 2>&1 || true; }
cure=$(sed -n 's/^CURE = "\(.*\)"$/\1/p' "$root/runtime/onnxruntime_packages.py")
gpu_range=$(sed -n 's/^GPU_PACKAGE = "\(.*\)"$/\1/p' "$root/runtime/onnxruntime_packages.py")
export COLUMNS=400

say "shortcast with onnxruntime, which faster-whisper pulls in"
"$bin/pip" install -q --disable-pip-version-check -e "$root" 2>/dev/null
before=$(providers); echo "$before"
must_not CUDAExecutionProvider "$before"
used=$(score); echo "$used"
must "asked onnxruntime for CUDA" "$used"

say "then $gpu_range beside it: both unpack into one folder"
"$bin/pip" install -q --disable-pip-version-check "$gpu_range" 2>/dev/null
echo "after the GPU package: $(providers)"
"$bin/pip" install -q --disable-pip-version-check --force-reinstall --no-deps "onnxruntime<1.27" 2>/dev/null
lost=$(providers); echo "after the CPU package once more: $lost"
must_not CUDAExecutionProvider "$lost"
found=$(doctor); grep "onnxruntime packages" <<<"$found"
must "overwrite each other" "$found"
used=$(score); echo "$used"
must "overwrite each other" "$used"

say "uninstalling one of them breaks the other"
"$bin/pip" uninstall -q -y onnxruntime
providers || true
found=$(doctor)
must "empty shell" "$found"
used=$(score); echo "$used"
must "empty shell" "$used"

say "the cure: $cure"
PATH="$bin:$PATH" bash -c "$cure"
cured=$(providers); echo "$cured"
must CUDAExecutionProvider "$cured"
found=$(doctor); grep -i onnxruntime <<<"$found"
must_not "overwrite each other" "$found"

say "a provider that is listed and cannot load is an error, never the CPU"
used=$(score); echo "$used"
if "$bin/python" -c 'import ctypes; ctypes.CDLL("libcuda.so.1")' 2>/dev/null; then
    echo "(this machine has a driver: the score above is the GPU's)"
else
    must "its libraries do not load" "$used"
    must_not '"score"' "$used"
    must_not "EP Error" "$used"
fi
on_cpu=$("$bin/python" -m shortcast score "$root/samples/sample.mp4" --no-sound --format jsonl --device cpu 2>/dev/null | tail -1)
must '"score"' "$on_cpu"
must_not "EP Error" "$found"
say "all as documented"
