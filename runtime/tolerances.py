"""How far an engine of each precision may be from PyTorch in float32, on any machine, and why."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from .decision import DecisionGate
from .parity import Tolerance

PRECISIONS = ("fp32", "fp16", "int8")
"""What graphs can be had in: float32; float16 convolutions and matrix products in a float32 graph; the same in 8-bit integers."""


@dataclass(frozen=True, slots=True)
class Tolerances:
    """How far each kind of output may be off."""

    embedding: Tolerance
    hidden: Tolerance | None
    """None: not compared, since a stream's state stays with the engine that made it."""
    cell: Tolerance | None
    score: Tolerance
    """Also head scores and quantiles: standardised units."""
    weights: Tolerance
    """Class logits and chunk weights."""
    decision: DecisionGate
    """What users see: the score, order and class of whole clips, the state carried from chunk to chunk."""

    def of(self, outputs: Iterable[str]) -> dict[str, Tolerance]:
        """The tolerance of each output of either graph that is compared, by its name."""
        found = {output: self._of(output) for output in outputs}
        return {output: tolerance for output, tolerance in found.items() if tolerance is not None}

    def _of(self, output: str) -> Tolerance | None:
        if output in ("class_logits", "chunk_weights"):
            return self.weights
        kinds = {"embedding": self.embedding, "h": self.hidden, "c": self.cell}
        kind = output if output == "embedding" else output[0] if output.endswith("_out") else ""
        return kinds.get(kind, self.score)


_ORDER = "float32 sums in another order, on another processor's kernels"
FLOAT32 = Tolerances(
    embedding=Tolerance(1e-4, 1e-4, _ORDER),
    hidden=Tolerance(1e-4, 1e-4, _ORDER),
    cell=Tolerance(1e-4, 1e-4, _ORDER),
    score=Tolerance(1e-4, 0.0, _ORDER),
    weights=Tolerance(1e-4, 0.0, _ORDER),
    decision=DecisionGate(
        score=1e-3,
        spearman=0.9999,
        margin_z=1e-3,
        margin_probability=1e-3,
        reason="CTranslate2 picks other float32 kernels on other processors; a thousandth of a standard deviation decides nothing",
    ),
)
FLOAT16 = Tolerances(
    embedding=Tolerance(5e-3, 5e-3, "float16 convolutions and matrix products, everything else float32"),
    hidden=Tolerance(2e-2, 0.0, "16 recurrent steps whose convolutions round to 11 bits"),
    cell=Tolerance(2e-2, 2e-3, "the accumulator stays float32; what is added to it was rounded to 11 bits"),
    score=Tolerance(2e-3, 2e-3, "2 thousandths of the target's standard deviation"),
    weights=Tolerance(5e-3, 5e-3, "logits of order 1 from float16 products"),
    decision=DecisionGate(
        score=1e-2,
        spearman=0.999,
        margin_z=2e-2,
        margin_probability=2e-2,
        reason="a hundredth of a standard deviation is far below the width of any interval",
    ),
)
INT8 = Tolerances(
    embedding=Tolerance(2e-2, 0.0, "8-bit convolutions; measured up to 1.3e-2 over 200 chunks, on embeddings that reach 1.1"),
    hidden=None,
    cell=None,
    score=Tolerance(5e-2, 0.0, "a twentieth of the target's standard deviation for a single chunk"),
    weights=Tolerance(0.1, 0.05, "logits of order 1"),
    decision=DecisionGate(
        score=5e-2,
        spearman=0.99,
        margin_z=5e-2,
        margin_probability=5e-2,
        reason="a twentieth of a standard deviation, a fortieth of a typical interval's width; 0.015 and 0.041 were measured on two models",
    ),
)
TOLERANCES = {"fp32": FLOAT32, "fp16": FLOAT16, "int8": INT8}
"""By precision, for every backend."""

_BY_COMPUTE_TYPE = {"float32": "fp32", "float16": "fp16"}


def decision_gate(precision: str, compute_type: str) -> DecisionGate:
    """The gate for graphs in a precision and a Whisper computed in one of CTranslate2's types: the wider of the two."""
    heard = _BY_COMPUTE_TYPE.get(compute_type, "int8")
    return max((TOLERANCES[precision].decision, TOLERANCES[heard].decision), key=lambda gate: gate.score)


def wider_compute_type(one: str, other: str) -> str:
    """The one of CTranslate2's types that may be further off."""
    order = ("float32", "float16")
    return max((one, other), key=lambda kind: order.index(kind) if kind in order else len(order))
