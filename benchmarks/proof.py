"""Parity before performance: a contender's scores of the bundle's proof clips beside PyTorch's. No parity, no number."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import inf, isfinite

import numpy as np
from numpy.typing import NDArray

from ..runtime.bundle import Bundle
from ..runtime.decision import DecisionGate, Decisions, compare_decisions
from ..runtime.proof import ProofClip
from ..runtime.scorer import Scorer
from ..runtime.tolerances import decision_gate
from .contenders import Contender
from .results import Parity

_AS = {"bf16": "int8"}
"""bfloat16 keeps 8 significant bits of a number, as int8 does: it is held to the same limits."""


@dataclass(frozen=True, slots=True)
class _Said:
    """What was said of one clip after each of its chunks."""

    z: tuple[float, ...]
    class_probabilities: tuple[float, ...]


def prove(scorer: Scorer, what: Contender, *, clips: int | None = None) -> Parity:
    """Scores proof clips as a user's clips are scored, and compares every score with the reference's.

    Args:
        scorer: the contender in the pipeline.
        what: the contender, which says how far it may be off.
        clips: only so many, the first ones; None takes all.
    """
    bundle, said = scorer.bundle, []
    limit = gate_of(what, bundle).score
    proof_clips = bundle.proof_clips()[:clips]
    for clip in proof_clips:
        said.append(_score(scorer, bundle, clip))
        if not _error(clip, said[-1]) <= limit:
            break  # one wrong clip settles it, and wrong contenders tend to be slow ones
    return judge(bundle, what, proof_clips[: len(said)], said)


def judge(bundle: Bundle, what: Contender, clips: Sequence[ProofClip], said: Sequence[_Said]) -> Parity:
    """Compares what was said of clips with what the reference said."""
    gate = gate_of(what, bundle)
    worst = max(_error(clip, one) for clip, one in zip(clips, said, strict=True))
    if not isfinite(worst):
        why = "a score is NaN or infinite, or a clip got another number of scores"
        return Parity(bundle.manifest.id, len(clips), sys.float_info.max, gate.score, 0, False, why)
    logits = [_softmax(clip.class_logits[-1]) for clip in clips]
    reference = Decisions(np.array([clip.z[-1] for clip in clips], np.float64), np.stack(logits))
    candidate = Decisions(np.array([one.z[-1] for one in said]), np.stack([np.array(one.class_probabilities) for one in said]))
    decision = compare_decisions(reference, candidate, gate)
    failed = [row for row in decision.rows(gate) if not row.passed]
    detail = "; ".join(f"{row.output} {row.max_abs_error:.3g}, allowed {row.tolerance.atol:g}" for row in failed)
    return Parity(bundle.manifest.id, len(clips), worst, gate.score, decision.class_changes, not failed and worst <= gate.score, detail)


def gate_of(what: Contender, bundle: Bundle) -> DecisionGate:
    """How far a contender may be from the reference, whose own Whisper may be rounded too: the widest of the limits that apply."""
    precision = _AS.get(what.precision, what.precision)
    types = (_compute_type(what.whisper), bundle.manifest.whisper.compute_type)
    return max((decision_gate(precision, kind) for kind in types), key=lambda gate: gate.score)


def merged(proofs: Sequence[Parity]) -> Parity | None:
    """The worst of what several processes of one contender showed; None where none did."""
    if not proofs:
        return None
    worst = max(proofs, key=lambda parity: (not parity.passed, parity.max_error))
    return replace(worst, clips=max(parity.clips for parity in proofs))


def refusal(parity: Parity) -> str:
    """Why wrong values get no number."""
    found = "not comparable" if parity.max_error == sys.float_info.max else f"off by {parity.max_error:.3g}"
    return f"its scores are not the reference's: {found}, allowed {parity.tolerance:g}" + (f" ({parity.detail})" if parity.detail else "")


def _compute_type(whisper: str) -> str:
    return whisper.split(" ")[1] if " " in whisper else "float32"


def _score(scorer: Scorer, bundle: Bundle, clip: ProofClip) -> _Said:
    scores = list(scorer.stream(bundle.path / clip.file))
    return _Said(tuple(score.z for score in scores), scores[-1].class_probabilities)


def _error(clip: ProofClip, said: _Said) -> float:
    """The largest difference of any of its scores; infinite where they cannot be compared."""
    if len(said.z) != len(clip.z):
        return inf
    error = float(np.abs(np.array(said.z) - clip.z).max())
    return error if isfinite(error) else inf


def _softmax(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    powers = np.exp(logits.astype(np.float64) - logits.max())
    return np.asarray(powers / powers.sum())
