"""Adds the names of one version of cuda.bindings.runtime to tests/export/cuda_api.json, of those that shortcast may use.

python tests/export/cuda_api.py 13.5.0
PYTHONPATH=UNPACKED_WHEEL python tests/export/cuda_api.py 12.8.0
"""

import json
import sys
from pathlib import Path

from cuda.bindings import runtime

INVENTORY = Path(__file__).with_suffix(".json")
WANTED = ("cudaDriver", "cudaFree", "cudaGet", "cudaGraph", "cudaHost", "cudaMalloc", "cudaMem", "cudaRuntime", "cudaStream", "cudaError_t")
ENUMS = ("cudaError_t", "cudaMemcpyKind", "cudaStreamCaptureMode")

if __name__ == "__main__":
    names = {name for name in dir(runtime) if name.startswith(WANTED) and "_v" not in name}
    for enum in ENUMS:
        names |= {name for name in dir(getattr(runtime, enum)) if name.startswith("cuda")}
    known = json.loads(INVENTORY.read_text()) if INVENTORY.exists() else {}
    INVENTORY.write_text(json.dumps(dict(sorted({**known, sys.argv[1]: sorted(names)}.items())), indent=0) + "\n")
