"""Re-proving a bundle on this machine, from its golden data and with no torch."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from .bundle import Bundle
from .engines import Engine, Tensors, open_engine
from .golden import Golden, load_golden
from .parity import ParityRow, Tolerance, compare_tensors
from .scorer import Scorer

_STEP = Tolerance(1e-4, 1e-4, "float32 sums in another order, over one chunk with the state given")
_FUSION = Tolerance(1e-4, 0.0, "float32 sums in another order")
_SOUND = Tolerance(2e-3, 0.0, "CTranslate2 picks other float32 kernels on other processors; embeddings reach about 10")
_STREAM = Tolerance(1e-4, 0.0, "the score a user sees, in standardised units, state and all carried from chunk to chunk")


def verify(
    bundle: Bundle, *, backend: str = "onnxruntime", device: str = "cpu", whisper: Path | None = None, sound: bool = True
) -> Iterator[ParityRow]:
    """Runs the golden chunks through this machine's engines and compares every stage with what PyTorch made of them.

    Args:
        bundle: an opened bundle; opening it has checked every byte.
        backend: engine backend, see `open_engine`.
        device: `cpu` or `cuda`.
        whisper: a directory with the Whisper weights; None looks in the usual places.
        sound: also check the sound encoder and the whole stream, which need the Whisper weights.

    Yields:
        One row for each stage and output.

    Raises:
        EngineError: an engine does not open.
        WeightsError: `sound` is asked for and the weights are not found.
    """
    golden = load_golden(bundle.golden)
    with open_engine(bundle.graph("visual"), backend=backend, device=device) as visual:
        yield from _verify_visual(visual, golden)
    with open_engine(bundle.graph("fusion"), backend=backend, device=device) as fusion:
        yield from _verify_fusion(fusion, golden, bundle.manifest.window_chunks)
    if sound:
        with Scorer(bundle, backend=backend, device=device, whisper=whisper) as scorer:
            yield from _verify_stream(scorer, golden)


def _verify_visual(engine: Engine, golden: Golden) -> Iterator[ParityRow]:
    """Each chunk on its own, starting from the state PyTorch had reached: an error cannot hide behind an earlier one."""
    before: Tensors = {name: np.zeros_like(values[:1]) for name, values in golden.states.items()}
    tolerances = {"embedding": _STEP, **{f"{name}_out": _STEP for name in golden.states}}
    for k, chunk in enumerate(golden.chunks):
        after: Tensors = {name: values[k : k + 1] for name, values in golden.states.items()}
        if chunk.has_pictures:
            feeds: Tensors = {"frames": chunk.frames[None], "frame_mask": chunk.frame_mask[None].astype(np.float32), **before}
            reference = {"embedding": golden.visual[k : k + 1], **{f"{name}_out": values for name, values in after.items()}}
            yield from compare_tensors(f"golden visual, chunk {k}", reference, engine.run(feeds), tolerances)
        before = after


def _verify_fusion(engine: Engine, golden: Golden, window: int | None) -> Iterator[ParityRow]:
    """The first chunk, the first two, ... the whole clip: the last row of each must be the reference's."""
    tolerances = {name: _FUSION for name in golden.fusion if name != "chunk_weights"}
    for k in range(len(golden.chunks)):
        outputs = {name: values[0, -1:] for name, values in engine.run(golden.fusion_feeds(k + 1, window)).items()}
        reference = {name: values[k : k + 1] for name, values in golden.fusion.items()}
        yield from compare_tensors(f"golden fusion, {k + 1} of {len(golden.chunks)} chunks", reference, outputs, tolerances)


def _verify_stream(scorer: Scorer, golden: Golden) -> Iterator[ParityRow]:
    """The way a user's clip takes: sound encoder, visual encoder and fusion, state carried."""
    stream = scorer.new_stream("golden")
    z, heard = [], []
    for chunk in golden.chunks:
        z.append(scorer.step(stream, chunk).z)
        heard.append(np.zeros_like(golden.audio[0]) if stream.last_audio is None else stream.last_audio)
    yield from compare_tensors("golden sound", {"embedding": golden.audio}, {"embedding": np.stack(heard)}, {"embedding": _SOUND})
    expected = golden.fusion["score"].astype(np.float64)
    yield from compare_tensors("golden stream equals batch", {"score": expected}, {"score": np.array(z)}, {"score": _STREAM})
