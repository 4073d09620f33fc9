"""The engines of a bundle: built from its ONNX files when it is exported, or again where it is used."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from ..errors import EngineError
from ..runtime.bundle import ENGINES, GRAPHS, Bundle, GraphFile, Manifest, graph_file
from ..runtime.engine_record import EngineRecord, difference
from ..runtime.signature import SIGNATURE
from .aside import written_aside
from .manifest import write_manifest
from .tensorrt import BuildOptions, build_engine
from .trt_build import BuildProgress
from .trt_gpu import current_gpu
from .trt_network import MODULES, import_tensorrt

Show = Callable[[str, BuildProgress], None]
"""A graph's name and how far its build is."""


def require_target(target: str) -> None:
    """Does nothing where engines for a target can be built here: asked before an export's long work, not after it.

    Raises:
        EngineError: the package is not installed, or there is no GPU where one is needed.
    """
    if target == "tensorrt":
        current_gpu()
    import_tensorrt(target)


def build_engines(root: Path, manifest: Manifest, options: BuildOptions, *, progress: Show) -> list[EngineRecord]:
    """Builds both engines of a bundle's directory in one precision.

    Args:
        root: the directory; it holds the graphs.
        manifest: its reports say which nodes of an fp16 graph stay float32, and why.
        options: see `BuildOptions`.
        progress: called in this thread as each build goes on.

    Raises:
        EngineError: see `build_engine`.
        GateError: an engine's precision is not the one declared.
    """
    return [_build(root, graph, options, _reasons(manifest.graphs[graph]), progress) for graph in GRAPHS]


def rebuild_engines(path: Path, options: BuildOptions, *, say: Callable[[str], None], progress: Show) -> list[EngineRecord]:
    """Builds the engines of a finished bundle again from the ONNX files inside, and says what had changed.

    The engines of the same TensorRT flavour and precision are replaced, others stay; the manifest is written anew, so a signature goes.

    Args:
        path: the bundle; it is replaced whole.
        options: see `BuildOptions`.
        say: called with a sentence for each engine, and for a signature that goes.
        progress: called in this thread as each build goes on.

    Raises:
        BundleError: the bundle does not open, has no such precision, or cannot be written.
        EngineError, GateError: see `build_engines`; the bundle stays as it was.
    """
    bundle = Bundle.open(path)
    for graph in GRAPHS:
        if bundle.graph(graph, precision=options.precision) != path / graph_file(graph, options.precision):
            raise EngineError(f"{path} has no {options.precision} {graph} graph of its own; use another --precision")
    with written_aside(path) as aside:
        shutil.copytree(path, aside, dirs_exist_ok=True)
        before = list(_same_kind(bundle, options))
        for folder, _ in before:
            _remove(aside / folder)
        records = build_engines(aside, bundle.manifest, options, progress=progress)
        for record in records:
            say(_what_changed(record, [old for _, old in before if old.key.graph == record.key.graph]))
        if (aside / SIGNATURE).exists():
            (aside / SIGNATURE).unlink()
            say(f"the signature of {path} was for other engines and is gone; sign the bundle again with `shortcast sign`")
        write_manifest(bundle.manifest, aside)
        Bundle.open(aside)
    return records


def _build(root: Path, graph: str, options: BuildOptions, reasons: dict[str, str], progress: Show) -> EngineRecord:
    file = graph_file(graph, options.precision)
    if not (root / file).is_file():
        raise EngineError(f"the bundle has no {options.precision} {graph} graph of its own; use another --precision")
    return build_engine(root / file, root / ENGINES, options, reasons=reasons, progress=lambda now: progress(graph, now))


def _reasons(files: Mapping[str, GraphFile]) -> dict[str, str]:
    """By node, why it stays float32 in the fp16 graph, as the manifest has it."""
    kept = files["fp16"].report.get("conversion", {}).get("kept", []) if "fp16" in files else []
    return {node["name"]: node["reason"] for node in kept}


def _same_kind(bundle: Bundle, options: BuildOptions) -> Iterator[tuple[str, EngineRecord]]:
    for folder, record in bundle.engines():
        if (record.key.flavour, record.key.precision) == (MODULES[options.target], options.precision):
            yield folder, record


def _remove(engine: Path) -> None:
    """The engine's folder, and the one for its GPU where that was the last in it."""
    shutil.rmtree(engine)
    if not any(engine.parent.iterdir()):
        engine.parent.rmdir()


def _what_changed(record: EngineRecord, before: list[EngineRecord]) -> str:
    name = f"the {record.key.precision} {record.key.graph} engine"
    if not before:
        return f"built {name}: {record.attestation}"
    differing = difference(before[0].key, record.key)
    return f"rebuilt {name}: {'; '.join(differing) or 'nothing had changed'}; {record.attestation}"
