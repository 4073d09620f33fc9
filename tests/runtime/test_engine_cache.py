"""Engines on disk: written whole or not at all, and only ever handed out as the bytes that were built."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import pytest

from shortcast.errors import EngineError
from shortcast.runtime.engine_cache import engine_folder, find_engine, read_record, write_engine
from shortcast.runtime.engine_record import Attestation, EngineKey, EngineRecord, Profile

KEY = EngineKey(
    graph="visual",
    precision="fp32",
    onnx_sha256="a" * 64,
    profiles=(Profile.of(batch=(1, 1, 8)),),
    flags=("strongly_typed",),
    flavour="tensorrt_rtx",
    version="1.7.1.116",
    gpu="",
    compute_capabilities=("8.6", "8.9"),
    platform="linux_x86_64",
)
PLAN = b"a plan"


def recorded(key: EngineKey = KEY, plan: bytes = PLAN) -> EngineRecord:
    attestation = Attestation("network", 0, 1, 0, 4, ())
    return EngineRecord(key, "engine.plan", len(plan), hashlib.sha256(plan).hexdigest(), attestation, None, 0.5, ())


def test_a_written_engine_is_found_by_its_key(tmp_path: Path) -> None:
    path = write_engine(tmp_path, PLAN, recorded())
    assert path == tmp_path / "tensorrt_rtx-1.7.1-sm86-sm89-fp32" / "visual" / "engine.plan"
    assert find_engine(tmp_path, KEY) == path
    assert path.read_bytes() == PLAN
    assert read_record(path.parent) == recorded()
    assert sorted(entry.name for entry in path.parent.iterdir()) == ["build.json", "engine.plan"]


def test_an_engine_for_more_capabilities_is_found_for_one(tmp_path: Path) -> None:
    write_engine(tmp_path, PLAN, recorded())
    assert find_engine(tmp_path, replace(KEY, compute_capabilities=("8.9",), profiles=(), flags=(), gpu="NVIDIA L4"))


def test_a_second_engine_replaces_the_first_whole(tmp_path: Path) -> None:
    write_engine(tmp_path, PLAN, recorded())
    newer = replace(KEY, onnx_sha256="b" * 64)
    path = write_engine(tmp_path, b"another plan", recorded(newer, b"another plan"))
    assert path.read_bytes() == b"another plan"
    assert [entry.name for entry in path.parent.parent.iterdir()] == ["visual"]
    with pytest.raises(EngineError, match=r"ONNX file: built from bbbbbbbbbbbb…, wanted aaaaaaaaaaaa….*--engines-only"):
        find_engine(tmp_path, KEY)


def test_the_nearest_engine_is_the_one_explained(tmp_path: Path) -> None:
    write_engine(tmp_path, PLAN, recorded(replace(KEY, version="1.6.0.1", platform="windows_amd64", precision="fp16")))
    write_engine(tmp_path, PLAN, recorded(replace(KEY, version="1.7.0.5")))
    with pytest.raises(EngineError) as caught:
        find_engine(tmp_path, KEY)
    assert "TensorRT version: built with 1.7.0.5, wanted 1.7.1.116" in str(caught.value)
    assert "platform" not in str(caught.value)


@pytest.mark.parametrize("damage", [b"a plam", b"a plan and more", b""])
def test_an_altered_plan_is_never_handed_out(tmp_path: Path, damage: bytes) -> None:
    write_engine(tmp_path, PLAN, recorded()).write_bytes(damage)
    with pytest.raises(EngineError, match=r"was altered.*--engines-only"):
        find_engine(tmp_path, KEY)


def test_a_missing_plan_is_an_error(tmp_path: Path) -> None:
    write_engine(tmp_path, PLAN, recorded()).unlink()
    with pytest.raises(EngineError, match="cannot be read"):
        find_engine(tmp_path, KEY)


def test_no_engine_is_an_error_that_says_how_to_build_one(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match=r"holds no visual engine; .*--engines-only"):
        find_engine(tmp_path / "engines", KEY)


@pytest.mark.parametrize("text", ["{", "[]", '{"schema": "1"}', "\x00"])
def test_a_damaged_record_is_said_and_does_not_hide_the_others(tmp_path: Path, text: str) -> None:
    good = write_engine(tmp_path, PLAN, recorded())
    other = write_engine(tmp_path, PLAN, recorded(replace(KEY, version="1.6.0.1")))
    (other.parent / "build.json").write_text(text)
    assert find_engine(tmp_path, KEY) == good
    (good.parent / "build.json").write_text(text)
    with pytest.raises(EngineError, match=r"holds no visual engine .*build.json"):
        find_engine(tmp_path, KEY)


def test_a_record_cannot_point_outside_its_folder(tmp_path: Path) -> None:
    path = write_engine(tmp_path, PLAN, recorded())
    (tmp_path / "elsewhere.plan").write_bytes(PLAN)
    plain = json.loads((path.parent / "build.json").read_text())
    (path.parent / "build.json").write_text(json.dumps({**plain, "plan": "../../elsewhere.plan"}))
    with pytest.raises(EngineError, match="expected a file name"):
        find_engine(tmp_path, KEY)


def test_a_record_describes_its_plan(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="does not describe"):
        write_engine(tmp_path, b"other bytes", recorded())
    assert list(tmp_path.iterdir()) == []


def test_a_failed_write_keeps_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_engine(tmp_path, PLAN, recorded())
    real = Path.rename

    def fail_for_the_new_one(self: Path, target: Path) -> Path:
        if "writing" in self.name:
            raise OSError("disk full")
        return real(self, target)

    monkeypatch.setattr(Path, "rename", fail_for_the_new_one)
    with pytest.raises(EngineError, match="disk full"):
        write_engine(tmp_path, b"newer", recorded(plan=b"newer"))
    assert path.read_bytes() == PLAN
    assert [entry.name for entry in engine_folder(tmp_path, KEY).parent.iterdir()] == ["visual"]
