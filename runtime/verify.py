"""Re-proving a bundle on this machine, from its golden data and proof clips, with no torch.

Every stage is compared on its own, from the inputs PyTorch had, so that no error hides behind an earlier one; then the proof clips take
the whole way of a user's clip, and what is decided by their scores is compared. Where an error shows there, each stage is tried alone
among stages of the reference, which says who brings it in.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from .bundle import GOLDEN_CLIP, GRAPHS, Bundle
from .chunks import Chunk, read_chunks
from .decision import DecisionParity, compare_decisions
from .engines import Engine, Tensors, home_device, open_engines
from .engines.device_memory import DeviceMemory, OnGpu
from .engines.state import stepper
from .features import log_mel
from .golden import Golden, load_golden
from .parity import ParityRow, Tolerance, compare_tensors
from .proof import PrecisionProof, StageError
from .proof_run import ProofRun
from .tolerances import TOLERANCES, Tolerances

_SOUND = {
    "float32": Tolerance(2e-3, 0.0, "CTranslate2 picks other float32 kernels on other processors; embeddings reach about 10"),
    "float16": Tolerance(5e-2, 0.0, "float16 kernels of another processor; embeddings reach about 10"),
    "int8": Tolerance(0.5, 0.0, "8-bit kernels of another processor; embeddings reach about 10"),
}
_PICTURES = Tolerance(1.0, 0.0, "H.264 decodes exactly; swscale's vector code may round one level of 255 otherwise on other processors")
_SAMPLES = Tolerance(1e-4, 0.0, "FFmpeg decodes AAC in float32, in another order on other processors")
_MEL = Tolerance(1e-3, 0.0, "log10 of float32 powers: where there is next to no sound, the last bits of a sample show")


@dataclass(frozen=True, slots=True)
class VerifyOptions:
    """What is proved, and where."""

    precision: str = "fp32"
    backend: str = "onnxruntime"
    device: str | None = None
    """`cpu` or `cuda`; None is where the backend is at home."""
    whisper: Path | None = None
    """A directory with the Whisper weights; None looks in the usual places."""
    sound: bool = True
    """Also check the sound encoder and whole clips, which need the Whisper weights."""
    say: Callable[[str], None] = lambda sentence: None
    """Told what runs on a GPU, whether its work is captured, and what it takes of the GPU's memory."""


def verify(bundle: Bundle, options: VerifyOptions = VerifyOptions()) -> PrecisionProof:
    """Runs golden data and proof clips through this machine's engines and compares every stage with what PyTorch made of them.

    Args:
        bundle: an opened bundle; opening it has checked every byte.
        options: see `VerifyOptions`.

    Raises:
        BundleError: the bundle has no such precision, or its golden data cannot be read.
        EngineError: an engine does not open.
        WeightsError: `sound` is asked for and the weights are not found.
    """
    golden, allowed = load_golden(bundle.golden), TOLERANCES[options.precision]
    device = options.device or home_device(options.backend)
    graphs = [bundle.graph(name, precision=options.precision) for name in GRAPHS]
    with ExitStack() as opened:
        visual, fusion = (
            opened.enter_context(engine) for engine in open_engines(graphs, backend=options.backend, device=device, threads=None)
        )
        rows = [
            *_preprocessing(bundle, golden),
            *_verify_visual(visual, golden, allowed),
            *_verify_fusion(fusion, golden, bundle.manifest.window_chunks, allowed),
            *_verify_batches(visual, golden, allowed),
            *_verify_streams(visual, golden, allowed),
        ]
        decision: DecisionParity | None = None
        stages: tuple[StageError, ...] = ()
        if options.sound:
            run = ProofRun(bundle, precision=options.precision, backend=options.backend, device=device, whisper=options.whisper)
            rows += [*_verify_sound(run, golden, run.compute_type), *run.rows()]
            decision = compare_decisions(run.reference, run.decisions, run.gate)
            rows += decision.rows(run.gate)
            stages = run.stages(fusion)
        for sentence in _about((visual, fusion)):
            options.say(sentence)
    return PrecisionProof(options.precision, options.backend, device, tuple(rows), decision, stages)


def _about(engines: tuple[Engine, ...]) -> Iterator[str]:
    """What engines on a GPU say of themselves, after they have run."""
    told = [engine for engine in engines if isinstance(engine, OnGpu)]
    for graph, engine in zip(GRAPHS, told, strict=False):
        yield f"{graph}: {engine.name}; " + (f"not captured: {engine.capture_refused}" if engine.capture_refused else "captured graphs")
    if told:
        memory = DeviceMemory.together(engine.memory for engine in told)
        weights = "unknown" if memory.weights_bytes is None else f"{memory.weights_bytes / 2**20:.1f}"
        figures = [("scratch", memory.scratch_bytes), ("inputs and outputs", memory.io_bytes), ("state", memory.state_bytes)]
        yield f"MiB on the GPU: weights {weights}, " + ", ".join(f"{name} {size / 2**20:.1f}" for name, size in figures)


def _preprocessing(bundle: Bundle, golden: Golden) -> Iterator[ParityRow]:
    """The golden clip decoded here: pictures, samples and log-mel, by hash and by value."""
    with read_chunks(bundle.path / GOLDEN_CLIP, bundle.contract) as stream:
        chunks = tuple(stream)
    mel = np.stack([log_mel(chunk.samples, mel_bins=bundle.contract.sound.mel_bins) for chunk in chunks])
    expected = {**_stacked(golden.chunks), "log-mel": golden.mel}
    found = {**_stacked(chunks), "log-mel": mel}
    tolerances = {"pictures": _PICTURES, "samples": _SAMPLES, "masks": Tolerance(0.0, 0.0, "what is real is a contract"), "log-mel": _MEL}
    for row in compare_tensors("preprocessing", expected, found, tolerances):
        hashes = [sha256(np.ascontiguousarray(values[row.output]).tobytes()).hexdigest()[:16] for values in (expected, found)]
        same = "the same bytes" if hashes[0] == hashes[1] else f"sha256 {hashes[0]}… there, {hashes[1]}… here"
        yield ParityRow(row.check, row.output, row.shape, row.max_abs_error, row.tolerance, passed=row.passed, detail=row.detail or same)


def _stacked(chunks: tuple[Chunk, ...]) -> dict[str, NDArray[np.generic]]:
    masks = [np.concatenate((chunk.frame_mask, chunk.sample_mask)).astype(np.uint8) for chunk in chunks]
    return {
        "pictures": np.stack([chunk.frames for chunk in chunks]),
        "samples": np.stack([chunk.samples for chunk in chunks]),
        "masks": np.stack(masks),
    }


def _verify_visual(engine: Engine, golden: Golden, allowed: Tolerances) -> Iterator[ParityRow]:
    """Each chunk on its own, starting from the state PyTorch had reached: an error cannot hide behind an earlier one."""
    names = ["embedding", *(f"{name}_out" for name in golden.states)]
    for k, chunk in enumerate(golden.chunks):
        if chunk.has_pictures:
            reference = {"embedding": golden.visual[k : k + 1], **{f"{name}_out": x[k : k + 1] for name, x in golden.states.items()}}
            outputs = engine.run(_visual_feeds([chunk], golden.state_before(k)))
            yield from compare_tensors(f"golden visual, chunk {k}", reference, outputs, allowed.of(names))


def _verify_fusion(engine: Engine, golden: Golden, window: int | None, allowed: Tolerances) -> Iterator[ParityRow]:
    """The first chunk, the first two, ... the whole clip: the last row of each must be the reference's."""
    tolerances = allowed.of(name for name in golden.fusion if name != "chunk_weights")
    for k in range(len(golden.chunks)):
        outputs = {name: values[0, -1:] for name, values in engine.run(golden.fusion_feeds(k + 1, window)).items()}
        reference = {name: values[k : k + 1] for name, values in golden.fusion.items()}
        yield from compare_tensors(f"golden fusion, {k + 1} of {len(golden.chunks)} chunks", reference, outputs, tolerances)


def _verify_batches(visual: Engine, golden: Golden, allowed: Tolerances) -> Iterator[ParityRow]:
    """All golden chunks as one batch, each with the state before it: a row must not know its neighbours."""
    seen = [k for k, chunk in enumerate(golden.chunks) if chunk.has_pictures]
    if not seen:
        return
    before = [golden.state_before(k) for k in seen]
    state = {name: np.concatenate([states[name] for states in before]) for name in golden.states}
    outputs = visual.run(_visual_feeds([golden.chunks[k] for k in seen], state))
    reference = {"embedding": golden.visual[seen]}
    yield from compare_tensors("golden visual batch", reference, outputs, {"embedding": allowed.embedding})


def _verify_streams(visual: Engine, golden: Golden, allowed: Tolerances) -> Iterator[ParityRow]:
    """State that the engine carries itself, from chunk to chunk, for two streams in one call of which the second begins a chunk later."""
    seen = [k for k, chunk in enumerate(golden.chunks) if chunk.has_pictures]
    if not seen or seen != list(range(len(seen))):
        return  # a chunk without pictures in between is no step
    steps = stepper(visual)
    with closing(steps.begin()) as first, closing(steps.begin()) as second:
        steps_of = [_visual_feeds([golden.chunks[k]], {}) for k in seen]
        found = [[steps.step(steps_of[0], first)["embedding"]], []]
        for k in range(1, len(seen)):
            both = steps.step_many([steps_of[k], steps_of[k - 1]], [first, second])
            for rows, outputs in zip(found, both, strict=True):
                rows.append(outputs["embedding"])
    reference = {"first": golden.visual[seen], "second": golden.visual[seen[:-1]]}
    values = {name: np.concatenate(rows) for name, rows in zip(reference, found, strict=True) if rows}
    for name in values:
        tolerance = {"embedding": allowed.embedding}
        yield from compare_tensors(
            f"golden visual, carried state, {name} of two streams", {"embedding": reference[name]}, {"embedding": values[name]}, tolerance
        )


def _visual_feeds(chunks: list[Chunk], state: Mapping[str, NDArray[np.generic]]) -> Tensors:
    masks = np.stack([chunk.frame_mask for chunk in chunks]).astype(np.float32)
    return {"frames": np.stack([chunk.frames for chunk in chunks]), "frame_mask": masks, **state}


def _verify_sound(run: ProofRun, golden: Golden, compute_type: str) -> list[ParityRow]:
    tolerance = _SOUND.get(compute_type, _SOUND["int8"])
    return compare_tensors("golden sound", {"embedding": golden.audio}, {"embedding": run.golden_audio}, {"embedding": tolerance})
