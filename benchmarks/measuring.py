"""A run from its first import to its last sample: cold start, proof, warm-up, timed part. It happens in the child."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from time import monotonic, perf_counter

from ..errors import EngineError
from ..runtime.bundle import GRAPHS, Bundle
from ..runtime.engines.device_memory import DeviceMemory, OnGpu
from ..runtime.many import streaming
from ..runtime.scorer import Scorer
from ..runtime.threads import ThreadPlan
from ..runtime.whisper import MODEL_FILE
from .contenders import Contender, Opened, open_contender
from .hearing import whisper_weights
from .process_tree import own_peak_rss
from .proof import prove
from .recording import Record
from .results import ColdStart, Parity
from .scenarios import Timed, run_scenario, threads_of
from .task import Answer, Task


def measure(task: Task, mark: Callable[[str], None]) -> Answer:
    """Does a task.

    Args:
        task: what to do.
        mark: told the name of each phase as it begins.

    Raises:
        ShortcastError: the contender cannot be opened or run.
    """
    _import_libraries(task.contender)
    imported = monotonic()
    begun = perf_counter()
    bundle, threads = Bundle.open(task.bundle), threads_of(task)
    plan = ThreadPlan.fit(threads)
    whisper = Path(task.whisper) if task.whisper else None
    with open_contender(task.contender, bundle, threads=plan.graphs, sound_threads=plan.sound, whisper=whisper, mark=mark) as opened:
        loaded = perf_counter()
        mark("first")
        scorer = opened.scorer(threads)
        _first_score(scorer, task.clips[0])
        first = perf_counter()
        mark("proof")
        parity = prove(scorer, task.contender, clips=task.proof_clips)
        cold = ColdStart(1e3 * (imported - task.spawned_s), 1e3 * (loaded - begun), 1e3 * (first - loaded))
        record, timed = Record(), None
        if parity.passed and task.scenario is not None:
            timed = run_scenario(task, opened, scorer, record, mark)
        if "torch" in sys.modules and task.contender.lean:
            raise EngineError(f"{task.contender.name} was to run without PyTorch, and torch was imported in its process")
        return _answer(task, opened, parity, cold, record, timed)


def _import_libraries(what: Contender) -> None:
    """Everything the contender is made of, so that loading is timed without it."""
    library = what.whisper.partition(" ")[0]
    wanted = {
        "onnxruntime": ("shortcast.runtime.engines.onnxruntime",),
        "torch-eager": ("torch",),
        "torch-compile": ("torch", "torch._dynamo"),
        "openvino": ("openvino",),
        "ctranslate2": ("ctranslate2",),
        "transformers": ("torch", "transformers"),
    }
    if what.missing():
        return
    for name in (*wanted.get(what.backend, ()), *wanted.get(library, ())):
        importlib.import_module(name)


def _first_score(scorer: Scorer, clip: str) -> None:
    with streaming(scorer, clip, None) as scores:
        next(scores)


def _answer(task: Task, opened: Opened, parity: Parity, cold: ColdStart, record: Record, timed: Timed | None) -> Answer:
    return Answer(
        parity=parity,
        cold=cold,
        warm_up=timed.warm_up if timed else None,
        wall_s=timed.wall_s if timed else 0.0,
        cpu_s=timed.cpu_s if timed else 0.0,
        clips=record.clips,
        chunks=record.chunks,
        media_s=record.media_s,
        series=record.series(),
        outcome={**record.outcome, "torch_in_process": float("torch" in sys.modules)},
        peak_rss_bytes=own_peak_rss(),
        parts=_parts(task, opened),
    )


def _parts(task: Task, opened: Opened) -> dict[str, dict[str, int]]:
    """What engines on a GPU say of themselves, else sizes of the weights as files hold them: engines copy them, some packed otherwise."""
    manifest = opened.bundle.manifest
    chosen = manifest.variants.get(task.contender.precision) or manifest.variants["fp32"]
    graphs = sum(sum(manifest.graphs[name][chosen[name]].weight_bytes.values()) for name in GRAPHS)
    model = whisper_weights(opened.bundle, Path(task.whisper) if task.whisper else None).path / MODEL_FILE
    return {"load-graphs": _on_gpu(opened) or {"graph weights": graphs}, "load-sound": {"Whisper weights": model.stat().st_size}}


def _on_gpu(opened: Opened) -> dict[str, int]:
    """What engines on a GPU say they take there; empty where they are elsewhere."""
    engines = [engine for engine in (opened.visual, opened.fusion) if isinstance(engine, OnGpu)]
    if not engines:
        return {}
    memory = DeviceMemory.together(engine.memory for engine in engines)
    named = {
        "engine weights": memory.weights_bytes or 0,
        "scratch, shared by the engines": memory.scratch_bytes,
        "inputs and outputs": memory.io_bytes,
        "recurrent state": memory.state_bytes,
    }
    return {name: size for name, size in named.items() if size}
