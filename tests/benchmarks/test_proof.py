"""No parity, no number: what passes, what does not, and what is said of it."""

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from shortcast.benchmarks.contenders import Contender
from shortcast.benchmarks.proof import _Said, gate_of, judge, merged, refusal
from shortcast.benchmarks.results import Parity
from shortcast.runtime.bundle import Bundle

FP32 = Contender("onnxruntime", "fp32", "ctranslate2 float32")


@pytest.fixture(scope="module")
def bundle(demo: Path) -> Bundle:
    return Bundle.open(demo)


def judged(bundle: Bundle, change: Callable[[np.ndarray], np.ndarray], what: Contender = FP32) -> Parity:
    clips = bundle.proof_clips()
    said = []
    for clip in clips:
        powers = np.exp(clip.class_logits[-1].astype(float) - clip.class_logits[-1].max())
        said.append(_Said(tuple(change(clip.z.astype(float)).tolist()), tuple((powers / powers.sum()).tolist())))
    return judge(bundle, what, clips, said)


def test_the_reference_itself_passes(bundle: Bundle) -> None:
    found = judged(bundle, lambda z: z)
    assert (found.passed, found.max_error, found.class_changes, found.clips) == (True, 0.0, 0, 25)
    assert found.bundle == bundle.manifest.id


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda z: z + 0.01, "off by 0.01, allowed 0.001"),
        (lambda z: np.append(z[:-1] + 0.01, z[-1]), "off by 0.01"),  # the last score alone would not show it
        (lambda z: z * np.nan, "not comparable"),
        (lambda z: z[:-1], "another number of scores"),
    ],
)
def test_wrong_scores_do_not(bundle: Bundle, change: Callable[[np.ndarray], np.ndarray], says: str) -> None:
    found = judged(bundle, change)
    assert not found.passed
    assert says in refusal(found)


@pytest.mark.parametrize(
    ("what", "limit"),
    [
        (FP32, 1e-3),
        (Contender("torch-eager", "bf16", "ctranslate2 float32"), 5e-2),
        (Contender("onnxruntime", "int8", "ctranslate2 float32"), 5e-2),
        (Contender("onnxruntime", "fp32", "ctranslate2 int8"), 5e-2),
        (Contender("tensorrt", "fp16", "ctranslate2 float32"), 1e-2),
        (Contender("onnxruntime", "fp32", "transformers float32 padded to 30 s"), 1e-3),
    ],
)
def test_limits_go_with_what_is_rounded(bundle: Bundle, what: Contender, limit: float) -> None:
    assert gate_of(what, bundle).score == limit


def test_the_worst_of_several_processes_counts(bundle: Bundle) -> None:
    good, bad = judged(bundle, lambda z: z), judged(bundle, lambda z: z + 0.01)
    assert merged([good, bad, good]) == bad
    assert merged([]) is None
    assert judged(bundle, lambda z: z * np.inf).max_error == sys.float_info.max
