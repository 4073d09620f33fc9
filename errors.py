"""Every error shortcast raises on purpose.

    ShortcastError            exit code 1
    ├── MediaError            a source cannot be opened, or nothing in it decodes
    ├── EngineError           a backend, provider or device asked for is not there; tensors do not fit a graph
    ├── WeightsError          Whisper weights are missing or are not the ones the model was trained with
    ├── BundleError           a bundle is missing, altered, or of a schema this version does not know
    ├── CheckpointError       a checkpoint is missing, altered, or of a format this version does not know
    ├── DataError             a manifest, a label or a target cannot be used
    ├── ParityError           exit code 3: two computations that must agree do not
    └── GateError             exit code 3: an artefact was made and is not what was asked for, or not worth having

Catch `ShortcastError` and you have caught all of them. A message says what happened, what was expected, and what to do next.
"""

from __future__ import annotations

__all__ = [
    "BundleError",
    "CheckpointError",
    "DataError",
    "EngineError",
    "GateError",
    "MediaError",
    "ParityError",
    "ShortcastError",
    "WeightsError",
]


class ShortcastError(Exception):
    """Base of every error shortcast raises on purpose."""

    exit_code = 1


class MediaError(ShortcastError):
    """A source cannot be opened, or holds no stream that decodes."""


class EngineError(ShortcastError):
    """A backend, provider or device is not there, or tensors do not fit the graph."""


class WeightsError(ShortcastError):
    """Whisper weights are missing, or differ from those the model was trained with."""


class BundleError(ShortcastError):
    """A bundle is missing, altered, or of an unknown schema."""


class CheckpointError(ShortcastError):
    """A checkpoint is missing, altered, or of an unknown format."""


class DataError(ShortcastError):
    """A manifest, a label or a target cannot be used."""


class ParityError(ShortcastError):
    """Two computations that must agree do not."""

    exit_code = 3


class GateError(ShortcastError):
    """An artefact was made and is not what was asked for, or not worth having: float32 for float16, int8 that is slower."""

    exit_code = 3
