"""How far an engine of each precision may be from PyTorch in float32, on any machine, and why."""

from __future__ import annotations

from dataclasses import dataclass

from .decision import DecisionGate
from .parity import Tolerance

PRECISIONS = ("fp32", "fp16", "int8")
"""What graphs can be had in: float32; float16 convolutions and matrix products in a float32 graph; the same in 8-bit integers."""


@dataclass(frozen=True, slots=True)
class Tolerances:
    """How far each kind of output may be off."""

    embedding: Tolerance
    hidden: Tolerance
    cell: Tolerance
    score: Tolerance
    """Also head scores and quantiles: standardised units."""
    weights: Tolerance
    """Class logits and chunk weights."""
    decision: DecisionGate
    """What users see: the score, order and class of whole clips, the state carried from chunk to chunk."""

    def of(self, output: str) -> Tolerance:
        """The tolerance of an output of either graph, by its name."""
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
    embedding=Tolerance(0.5, 0.1, "8-bit activations: a 256th of the range at every convolution; decisions are what is gated closely"),
    hidden=Tolerance(0.5, 0.0, "16 recurrent steps of 8-bit convolutions"),
    cell=Tolerance(1.0, 0.2, "16 recurrent steps of 8-bit convolutions"),
    score=Tolerance(0.15, 0.05, "a seventh of the target's standard deviation for a single chunk"),
    weights=Tolerance(0.3, 0.1, "logits of order 1"),
    decision=DecisionGate(
        score=0.15,
        spearman=0.99,
        margin_z=0.15,
        margin_probability=0.1,
        reason="a tenth of a standard deviation moves a clip by a few places in a hundred, and no further",
    ),
)
TOLERANCES = {"fp32": FLOAT32, "fp16": FLOAT16, "int8": INT8}
"""By precision, for every backend."""

_BY_COMPUTE_TYPE = {"float32": "fp32", "float16": "fp16"}


def decision_gate(precision: str, compute_type: str) -> DecisionGate:
    """The gate for graphs in a precision and a Whisper computed in one of CTranslate2's types: the wider of the two."""
    heard = _BY_COMPUTE_TYPE.get(compute_type, "int8")
    return max((TOLERANCES[precision].decision, TOLERANCES[heard].decision), key=lambda gate: gate.score)
