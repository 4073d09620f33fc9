"""The values a user gets: what is known about a clip after one chunk, and what it cost to know it."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from .pace import Pace
from .target import QUARTILES

if TYPE_CHECKING:
    from .transcript import Segment


@dataclass(frozen=True, slots=True)
class Latency:
    """Wall milliseconds each stage took for one chunk."""

    decode_ms: float
    """Demuxing, decoding, scaling and resampling."""
    sound_ms: float
    """Log-mel and the Whisper encoder."""
    visual_ms: float
    """The ConvLSTM encoder."""
    fusion_ms: float
    """The dual Transformer over the chunks it is shown."""
    transcript_ms: float = 0.0
    """Text, where it was asked for; spent once a window is full and at the end."""
    answer_ms: float = 0.0
    """From the moment the chunk was decoded until its score was known, waiting included; stages that run at once count once."""

    @property
    def total_ms(self) -> float:
        """Work: the sum of the stages, though sound and pictures are looked at side by side."""
        return self.decode_ms + self.sound_ms + self.visual_ms + self.fusion_ms + self.transcript_ms


@dataclass(frozen=True, slots=True)
class Score:
    """What is known about a clip after one chunk."""

    clip: str
    index: int
    start_s: float
    end_s: float
    """Media seconds: the chunk is `[start_s, end_s)`, the score is for `[0, end_s)`."""
    final: bool
    """True for the last chunk: this is the clip's score."""
    target: str
    """What is predicted, such as `views`."""
    value: float
    """In target units: the standardised score through the inverse transform."""
    z: float
    """In standardised units of the training split."""
    interval: tuple[float, float]
    """Outermost predicted quantiles with their conformal margin, in target units."""
    interval_coverage: float
    """Nominal share of clips whose value lies in `interval`."""
    class_probabilities: tuple[float, ...]
    """Probability of each of the K classes of the training split (quartiles, where K is 4), lowest first."""
    chunk_weights: tuple[float, ...]
    """How much each chunk that the model was shown counts in the fused head, the latest last; they sum to 1. Where the clip is longer
    than the model's window, the first stands for all chunks before the others."""
    has_pictures: bool
    """Whether this chunk had any picture."""
    has_sound: bool
    """Whether this chunk had any sound."""
    epoch: int
    """Timestamp discontinuities so far."""
    lost_packets: int
    """Packets so far that did not decode."""
    latency: Latency
    dropped_chunks: int = 0
    """Chunks so far that a live source was ahead by, and that were let go unseen."""
    pace: Pace = field(default_factory=Pace)
    """How scoring keeps up with the source."""
    notes: tuple[str, ...] = ()
    """Sentences about what the score lacks: no sound track, a truncated file."""
    transcript: tuple[Segment, ...] | None = None
    """What was understood so far; None where it was not asked for."""
    declared_s: float | None = None
    """How long the container says the clip is; it can be wrong, or absent."""
    settled: bool = False
    """True where the clip was not read any further because its score was settled, see `early`."""

    @property
    def predicted_class(self) -> int:
        """The most probable class, 1 to K."""
        return self.class_probabilities.index(max(self.class_probabilities)) + 1

    @property
    def unread_s(self) -> float | None:
        """Media seconds after this chunk; None where the container does not say."""
        return None if self.declared_s is None else max(0.0, self.declared_s - self.end_s)

    def to_json(self) -> dict[str, Any]:
        """One JSON line; the schema is in docs/score-schema.md."""
        kind = "quartile" if len(self.class_probabilities) == QUARTILES else "class"
        stages = {name.removesuffix("_ms"): round(spent, 3) for name, spent in asdict(self.latency).items()}
        return {
            "clip": self.clip,
            "chunk": self.index,
            "start_s": round(self.start_s, 3),
            "end_s": round(self.end_s, 3),
            "final": self.final,
            "settled": self.settled,
            "unread_s": round(self.unread_s, 3) if self.settled and self.unread_s is not None else None,
            "target": self.target,
            "score": self.value,
            "z": self.z,
            "interval": list(self.interval),
            "interval_coverage": self.interval_coverage,
            kind: self.predicted_class,
            f"{kind}_probabilities": list(self.class_probabilities),
            "chunk_weights": list(self.chunk_weights),
            "modalities": {"pictures": self.has_pictures, "sound": self.has_sound},
            "epoch": self.epoch,
            "lost_packets": self.lost_packets,
            "dropped_chunks": self.dropped_chunks,
            "pace": {name: _rounded(value) for name, value in asdict(self.pace).items()},
            "latency_ms": {**stages, "total": round(self.latency.total_ms, 3)},
            "notes": list(self.notes),
            "transcript": None if self.transcript is None else [asdict(segment) for segment in self.transcript],
        }


def _rounded(value: float) -> float:
    return value if isinstance(value, int) else round(value, 4)
