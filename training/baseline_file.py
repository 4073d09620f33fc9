"""The fitted baselines of a run as one JSON file, so that whoever evaluates the model later can set them beside it."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import DataError
from .baselines import AuthorMean, Baseline, Constant, Numbers, Pooled, Ridge
from .run import replace_file

BASELINES_FILE = "baselines.json"
_FORMAT = 1


@dataclass(frozen=True, slots=True)
class FittedBaselines:
    """The baselines of one run."""

    run_sha256: str
    """Of the run's configuration: the embeddings that the ridges look at are those of this run's autoencoder and no other's."""
    clips: int
    """Training clips they were fitted on."""
    baselines: tuple[Baseline, ...]


def save_baselines(run_dir: Path, fitted: FittedBaselines) -> None:
    """Writes the file aside and renames it whole.

    Raises:
        DataError: it cannot be written.
    """
    plain = {
        "format": _FORMAT,
        "run_sha256": fitted.run_sha256,
        "clips": fitted.clips,
        "baselines": [_to_json(baseline) for baseline in fitted.baselines],
    }
    try:
        replace_file(run_dir / BASELINES_FILE, (json.dumps(plain, indent=1, allow_nan=False) + "\n").encode())
    except OSError as error:
        raise DataError(f"{run_dir / BASELINES_FILE} cannot be written: {error}") from error


def load_baselines(run_dir: Path) -> FittedBaselines | None:
    """Reads what `save_baselines` wrote; None where there is no such file.

    Raises:
        DataError: the file is damaged.
    """
    path = run_dir / BASELINES_FILE
    try:
        plain = json.loads(path.read_text(encoding="utf-8"))
        _require(plain, {"format", "run_sha256", "clips", "baselines"})
        if plain["format"] != _FORMAT:
            raise ValueError(f"format {plain['format']!r}, expected {_FORMAT}")
        return FittedBaselines(str(plain["run_sha256"]), int(plain["clips"]), tuple(_from_json(one) for one in plain["baselines"]))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise DataError(f"{path} is not a file of baselines ({error}); delete it and run the same `shortcast train` again") from error


def _to_json(baseline: Baseline) -> dict[str, Any]:
    if isinstance(baseline, Constant):
        return {"kind": "constant", "name": baseline.name, "value": baseline.value}
    if isinstance(baseline, AuthorMean):
        prior = baseline.prior_clips if math.isfinite(baseline.prior_clips) else None
        known = {"train_mean": baseline.train_mean, "by_author": dict(baseline.by_author), "prior_clips": prior}
        return {"kind": "author mean", "name": baseline.name, **known}
    if isinstance(baseline, Ridge):
        numbers = {name: getattr(baseline, name).tolist() for name in ("mean", "scale", "coefficients")}
        rest = {"intercept": baseline.intercept, "alpha": baseline.alpha}
        return {"kind": "ridge", "name": baseline.name, "modalities": list(baseline.inputs.modalities), **numbers, **rest}
    raise DataError(f"baseline {baseline.name!r} cannot be written: its kind is not known here")


def _from_json(plain: Mapping[str, Any]) -> Baseline:
    kind = plain["kind"]
    if kind == "constant":
        _require(plain, {"kind", "name", "value"})
        return Constant(str(plain["name"]), _number(plain["value"]))
    if kind == "author mean":
        _require(plain, {"kind", "name", "train_mean", "by_author", "prior_clips"})
        means = {str(author): _number(mean) for author, mean in plain["by_author"].items()}
        prior = math.inf if plain["prior_clips"] is None else _number(plain["prior_clips"])
        return AuthorMean(str(plain["name"]), _number(plain["train_mean"]), means, prior)
    if kind == "ridge":
        return _ridge(plain)
    raise ValueError(f"baseline of unknown kind {kind!r}")


def _ridge(plain: Mapping[str, Any]) -> Ridge:
    _require(plain, {"kind", "name", "modalities", "mean", "scale", "coefficients", "intercept", "alpha"})
    mean, scale, coefficients = (_numbers(plain[name]) for name in ("mean", "scale", "coefficients"))
    if not len(mean) == len(scale) == len(coefficients) or not {*plain["modalities"]} <= {"pictures", "sound"}:
        raise ValueError(f"ridge {plain['name']!r}: its numbers do not belong together")
    inputs = Pooled(tuple(plain["modalities"]))
    return Ridge(str(plain["name"]), inputs, mean, scale, coefficients, _number(plain["intercept"]), _number(plain["alpha"]))


def _require(plain: Mapping[str, Any], keys: set[str]) -> None:
    if not isinstance(plain, Mapping) or set(plain) != keys:
        raise ValueError(f"expected the keys {', '.join(sorted(keys))}")


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise ValueError(f"expected a finite number, got {value!r}")
    return float(value)


def _numbers(values: Any) -> Numbers:
    return np.array([_number(value) for value in values])
