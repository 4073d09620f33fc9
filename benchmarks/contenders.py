"""What can be measured side by side: libraries for the graphs and for Whisper, and how each is opened. None is ever left out silently."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType

from ..errors import BundleError, EngineError
from ..runtime.bundle import GRAPHS, Bundle
from ..runtime.engines import Engine, open_engines
from ..runtime.scorer import Parts, Scorer
from .hearing import Ears, open_ears

BACKENDS: dict[str, tuple[str, ...]] = {
    "onnxruntime": ("fp32", "int8"),
    "torch-eager": ("fp32", "bf16"),
    "torch-compile": ("fp32", "bf16"),
    "openvino": ("fp32",),
    "tensorrt": ("fp16",),
}
"""Backends of the graphs, each with the precisions that are measured when none is asked for."""
PRECISIONS = ("fp32", "bf16", "fp16", "int8")
_ON_GPU = ("tensorrt",)
"""Whichever flavour the bundle has a fitting engine of, TensorRT or TensorRT-RTX; opening it says what is missing."""
_NEEDS = {
    "torch-eager": (("torch", "onnx"), "pip install 'shortcast[export]'"),
    "torch-compile": (("torch", "onnx"), "pip install 'shortcast[export]'"),
    "openvino": (("openvino",), "pip install openvino"),
    "transformers": (("torch", "transformers"), "pip install 'shortcast[whisper-convert]'"),
    "whisper.cpp": (("pywhispercpp",), "pip install pywhispercpp"),
}


@dataclass(frozen=True, slots=True)
class Contender:
    """What computes the graphs and what hears."""

    backend: str
    """One of `BACKENDS`, or `module:function` of a user's own, see `open_contender`."""
    precision: str
    whisper: str
    device: str = "cpu"
    """Of the graphs."""
    sound_device: str = ""
    """Of Whisper, where it is another."""

    @property
    def lean(self) -> bool:
        """Whether PyTorch has no business in its process."""
        return not (self.backend.startswith("torch-") or self.whisper.startswith("transformers") or ":" in self.backend)

    @property
    def name(self) -> str:
        return f"{self.backend} {self.precision} + {self.whisper}"

    def missing(self) -> str:
        """A sentence where a library isn't installed, found without importing any; empty otherwise."""
        for part in (self.backend, self.whisper.partition(" ")[0]):
            modules, cure = _NEEDS.get(part, ((), ""))
            absent = [module for module in modules if find_spec(module) is None]
            if absent:
                return f"{absent[0]} is not installed: {cure}"
        return ""


def contender(backend: str, precision: str, whisper: str, device: str) -> Contender:
    """A contender on the device it runs on: TensorRT knows no other than CUDA.

    Raises:
        EngineError: no such backend.
    """
    if backend not in BACKENDS and ":" not in backend:
        raise EngineError(f"backend {backend!r} is unknown; it is one of {', '.join(BACKENDS)}, or module:function of your own")
    return Contender(backend, precision, whisper, "cuda" if backend in _ON_GPU else device)


class Opened:
    """A contender that is ready. A context manager; leaving it closes the engines."""

    def __init__(self, bundle: Bundle, visual: Engine, fusion: Engine, ears: Ears) -> None:
        self.bundle, self.visual, self.fusion, self.ears = bundle, visual, fusion, ears
        self._threads: int | None = None

    def scorer(self, threads: int) -> Scorer:
        """The user's own pipeline over these engines; it shares them with every other scorer made here, so it is not to be closed."""
        return Scorer.of_parts(self.bundle, Parts(self.visual, self.fusion, lambda: self.ears), threads=threads)

    def __enter__(self) -> Opened:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.visual.close()
        self.fusion.close()


def open_contender(
    what: Contender, bundle: Bundle, *, threads: int, sound_threads: int, whisper: Path | None = None, mark: Callable[[str], None]
) -> Opened:
    """Loads engines, then the sound encoder.

    A backend of a user's own is `module:function`; the function takes the bundle and, by name, `precision`, `device` and `threads`, and
    returns the engines of `visual` and `fusion`.

    Args:
        what: see `Contender`.
        bundle: the opened bundle.
        threads: for one call of a graph.
        sound_threads: for one call of the sound encoder.
        whisper: a directory with the Whisper weights; None looks in the usual places.
        mark: told the name of each phase as it begins.

    Raises:
        EngineError: a library isn't installed, cannot use the device, or cannot do what is asked.
        BundleError: the bundle has no such precision.
        WeightsError: the Whisper weights are not found or do not load.
    """
    if reason := what.missing():
        raise EngineError(reason)
    mark("load-graphs")
    visual, fusion = _open_graphs(what, bundle, threads)
    mark("load-sound")
    ears = open_ears(what.whisper, bundle, device=what.sound_device or what.device, threads=sound_threads, whisper=whisper)
    return Opened(bundle, visual, fusion, ears)


def _open_graphs(what: Contender, bundle: Bundle, threads: int) -> tuple[Engine, Engine]:
    if what.backend.startswith("torch-"):
        from .torch_graphs import open_torch

        compiled = what.backend == "torch-compile"
        return open_torch(bundle, compiled=compiled, precision=what.precision, device=what.device, threads=threads)
    if what.backend == "openvino":
        return _openvino(what, bundle, threads)
    if ":" in what.backend:
        return _own(what, bundle, threads)
    if what.precision == "bf16":
        raise EngineError(f"a bundle holds no bf16 graphs; {what.backend} runs {', '.join(bundle.manifest.variants)}")
    paths = [bundle.graph(name, precision=what.precision) for name in GRAPHS]
    visual, fusion = open_engines(paths, backend=what.backend, device=what.device, threads=threads)
    return visual, fusion


def _openvino(what: Contender, bundle: Bundle, threads: int) -> tuple[Engine, Engine]:
    from .openvino_graph import OpenVinoEngine

    if what.precision not in bundle.manifest.variants or what.device != "cpu":
        raise BundleError(f"OpenVINO runs the bundle's graphs on a CPU, in {', '.join(bundle.manifest.variants)}; not {what.precision}")
    engines = []
    for name in GRAPHS:
        form = bundle.manifest.graphs[name][bundle.manifest.variants[what.precision][name]]
        engines.append(OpenVinoEngine(bundle.path / form.file, inputs=form.inputs, outputs=form.outputs, threads=threads))
    return engines[0], engines[1]


def _own(what: Contender, bundle: Bundle, threads: int) -> tuple[Engine, Engine]:
    module, _, function = what.backend.partition(":")
    try:
        opener = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError, ValueError) as error:
        raise EngineError(f"backend {what.backend!r} does not load: {error}") from error
    visual, fusion = opener(bundle, precision=what.precision, device=what.device, threads=threads)
    return visual, fusion
