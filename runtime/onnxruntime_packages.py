"""The two packages that ONNX Runtime comes in, and what happens where both are installed."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

CPU, GPU = "onnxruntime", "onnxruntime-gpu"
GPU_PACKAGE = "onnxruntime-gpu[cuda,cudnn]>=1.21,<1.27"
"""1.27 and later are for CUDA 13; CTranslate2, in the same process, is for CUDA 12."""
CURE = "pip uninstall -y onnxruntime onnxruntime-gpu && pip install --force-reinstall --no-deps 'onnxruntime-gpu>=1.21,<1.27'"
"""One line, for a shell. pip then notes that faster-whisper misses onnxruntime: it imports the module, which is there."""

BROKEN = (
    "the module onnxruntime is an empty shell: one of its two packages was uninstalled and took the other's files along; "
    "install again the one you want: pip install --force-reinstall --no-deps onnxruntime"
)


def installed() -> dict[str, str]:
    """The version of each of the two that is installed."""
    found = {}
    for name in (CPU, GPU):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def clash() -> str:
    """What is wrong and its cure where both are installed; empty where they are not.

    Both unpack into one folder: the one installed last wins, and CUDA is lost without a word when it is the CPU one.
    """
    return f"onnxruntime and onnxruntime-gpu are both installed and overwrite each other; keep one: {CURE}" if len(installed()) > 1 else ""
