"""Re-proving a bundle on this machine, from its golden data and proof clips, with no torch.

Every stage is compared on its own, from the inputs PyTorch had, so that no error hides behind an earlier one; then the proof clips take
the whole way of a user's clip, and what is decided by their scores is compared. Where an error shows there, each stage is tried alone
among stages of the reference, which says who brings it in.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from .bundle import GOLDEN_CLIP, Bundle
from .chunks import Chunk, read_chunks
from .decision import DecisionParity, compare_decisions
from .engines import Engine, Tensors, open_engine
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
    device: str = "cpu"
    whisper: Path | None = None
    """A directory with the Whisper weights; None looks in the usual places."""
    sound: bool = True
    """Also check the sound encoder and whole clips, which need the Whisper weights."""


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
    with _engine(bundle, "visual", options) as visual, _engine(bundle, "fusion", options) as fusion:
        rows = [
            *_preprocessing(bundle, golden),
            *_verify_visual(visual, golden, allowed),
            *_verify_fusion(fusion, golden, bundle.manifest.window_chunks, allowed),
            *_verify_batches(visual, golden, allowed),
        ]
        decision: DecisionParity | None = None
        stages: tuple[StageError, ...] = ()
        if options.sound:
            run = ProofRun(bundle, precision=options.precision, backend=options.backend, device=options.device, whisper=options.whisper)
            rows += [*_verify_sound(run, golden, bundle.manifest.whisper.compute_type), *run.rows()]
            decision = compare_decisions(run.reference, run.decisions, run.gate)
            rows += decision.rows(run.gate)
            stages = run.stages(fusion)
    return PrecisionProof(options.precision, options.backend, options.device, tuple(rows), decision, stages)


def _engine(bundle: Bundle, graph: str, options: VerifyOptions) -> Engine:
    return open_engine(bundle.graph(graph, precision=options.precision), backend=options.backend, device=options.device)


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


def _visual_feeds(chunks: list[Chunk], state: Mapping[str, NDArray[np.generic]]) -> Tensors:
    masks = np.stack([chunk.frame_mask for chunk in chunks]).astype(np.float32)
    return {"frames": np.stack([chunk.frames for chunk in chunks]), "frame_mask": masks, **state}


def _verify_sound(run: ProofRun, golden: Golden, compute_type: str) -> list[ParityRow]:
    tolerance = _SOUND.get(compute_type, _SOUND["int8"])
    return compare_tensors("golden sound", {"embedding": golden.audio}, {"embedding": run.golden_audio}, {"embedding": tolerance})
