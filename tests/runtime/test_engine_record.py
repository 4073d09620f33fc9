"""Keys and records: strict JSON, and what differs between two of them said in words."""

import json
from dataclasses import fields, replace
from typing import Any

import pytest

from shortcast.errors import EngineError
from shortcast.runtime.engine_record import Attestation, ComputeLayer, EngineKey, EngineRecord, Profile, difference, unmet

RTX = EngineKey(
    graph="visual",
    precision="fp16",
    onnx_sha256="a" * 64,
    profiles=(Profile.of(batch=(1, 1, 8)),),
    flags=("strongly_typed",),
    flavour="tensorrt_rtx",
    version="1.7.1.116",
    gpu="",
    compute_capabilities=("8.6", "8.9"),
    platform="linux_x86_64",
)
GPU = replace(RTX, flavour="tensorrt", version="10.13.0.35", gpu="NVIDIA H100 80GB HBM3", compute_capabilities=("9.0",))
HALF = Attestation("network", 35, 36, 5_000, 5_400, (ComputeLayer("head", "matrix multiply", "float32", "last layer"),))
RECORD = EngineRecord(RTX, "engine.plan", 4, "b" * 64, HALF, replace(HALF, source="engine"), 2.5, ("a warning",))


def altered(path: str, value: object) -> dict[str, Any]:
    """RECORD as JSON with one value changed: `key.gpu`; a value of Ellipsis removes it."""
    plain: dict[str, Any] = json.loads(RECORD.dumps())
    *parents, last = path.split(".")
    target = plain
    for name in parents:
        target = target[name]
    target[last] = value
    if value is ...:
        del target[last]
    return plain


def test_a_record_survives_json() -> None:
    assert EngineRecord.from_json(json.loads(RECORD.dumps())) == RECORD
    assert EngineRecord.from_json(RECORD.to_json()) == RECORD
    assert EngineKey.from_json(RTX.to_json()) == RTX
    without_gpu = replace(RECORD, engine=None)
    assert EngineRecord.from_json(without_gpu.to_json()) == without_gpu


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("schema", "0", "schema is '0'"),
        ("colour", "red", "colour"),
        ("sha256", ..., "sha256"),
        ("bytes", "4", "bytes: expected int"),
        ("bytes", True, "bytes: expected int"),
        ("seconds", None, "seconds: expected float"),
        ("plan", "../engine.plan", "file name"),
        ("plan", "/etc/passwd", "file name"),
        ("plan", "", "file name"),
        ("key.gpu", 3, "gpu: expected str"),
        ("key.flags", "strongly_typed", "flags: expected list"),
        ("key.profiles", [{"dims": [{"dim": "batch", "min": 1, "opt": 1}]}], "max"),
        ("key.profiles", [{"dims": [{"dim": "batch", "min": 1, "opt": 1, "max": 8.0}]}], "max: expected int"),
        ("network.half_layers", None, "half_layers"),
        ("network.float32_layers", [{"name": "head"}], "kind"),
        ("engine.source", ..., "source"),
    ],
)
def test_a_record_is_read_strictly(path: str, value: object, message: str) -> None:
    with pytest.raises(EngineError, match=message):
        EngineRecord.from_json(altered(path, value))


@pytest.mark.parametrize("plain", [[], None, "record", 3])
def test_what_is_no_object_is_no_record(plain: object) -> None:
    with pytest.raises(EngineError, match="expected dict"):
        EngineRecord.from_json(plain)


CHANGES: dict[str, Any] = {
    "graph": "fusion",
    "precision": "fp32",
    "onnx_sha256": "c" * 64,
    "profiles": (Profile.of(batch=(1, 4, 8)),),
    "flags": ("strongly_typed", "tf32_off"),
    "flavour": "tensorrt",
    "version": "1.8.0.1",
    "gpu": "NVIDIA L4",
    "compute_capabilities": ("7.5",),
    "platform": "linux_aarch64",
}


def test_every_field_has_a_change() -> None:
    assert set(CHANGES) == {field.name for field in fields(EngineKey)}


@pytest.mark.parametrize("name", CHANGES)
def test_a_difference_names_the_field_and_both_values(name: str) -> None:
    [sentence] = difference(RTX, replace(RTX, **{name: CHANGES[name]}))
    built, wanted = sentence.split(", wanted ")
    assert built
    assert wanted
    assert built.split("with ")[-1] != wanted
    assert difference(RTX, RTX) == []


def test_differences_read_as_sentences() -> None:
    assert difference(GPU, replace(GPU, version="10.16.1.11", gpu="NVIDIA L4")) == [
        "TensorRT version: built with 10.13.0.35, wanted 10.16.1.11",
        "GPU: built for NVIDIA H100 80GB HBM3, wanted NVIDIA L4",
    ]
    assert difference(RTX, replace(RTX, onnx_sha256="c" * 64)) == ["ONNX file: built from aaaaaaaaaaaa…, wanted cccccccccccc…"]
    assert "batch 1..8, best at 1" in difference(RTX, replace(RTX, profiles=()))[0]


def test_an_engine_for_several_capabilities_serves_each_of_them() -> None:
    here = replace(RTX, gpu="NVIDIA GeForce RTX 4090", compute_capabilities=("8.9",))
    assert unmet(RTX, here) == []
    assert "compute capabilities" in unmet(RTX, replace(here, compute_capabilities=("12.0",)))[0]


def test_an_engine_for_one_gpu_serves_no_other() -> None:
    assert unmet(GPU, GPU) == []
    assert unmet(GPU, replace(GPU, gpu="NVIDIA H200")) == ["GPU: built for NVIDIA H100 80GB HBM3, wanted NVIDIA H200"]
    assert unmet(GPU, replace(GPU, compute_capabilities=()))


def test_a_key_without_profiles_and_flags_asks_for_none() -> None:
    assert unmet(RTX, replace(RTX, profiles=(), flags=())) == []
    assert unmet(replace(RTX, profiles=(), flags=()), RTX)


def test_the_tag_is_a_folder_name_for_one_gpu_and_tensorrt() -> None:
    assert RTX.tag == "tensorrt_rtx-1.7.1-sm86-sm89-fp16"
    assert replace(RTX, compute_capabilities=("12.0",), precision="fp32").tag == "tensorrt_rtx-1.7.1-sm120-fp32"
    assert GPU.tag == "tensorrt-10.13.0-nvidia-h100-80gb-hbm3-sm90-fp16"
    assert "/" not in replace(GPU, gpu="../evil name").tag
    assert replace(GPU, gpu="../evil name").tag == "tensorrt-10.13.0-evil-name-sm90-fp16"


def test_an_attestation_says_shares_and_where_they_are_from() -> None:
    assert str(HALF) == "35 of 36 compute layers half, 93% of 5400 weight bytes (read from the network)"
    assert Attestation("engine", 0, 0, 0, 0, ()).half_layer_share == 0
    assert RECORD.attestation.source == "engine"
    assert replace(RECORD, engine=None).attestation is HALF
