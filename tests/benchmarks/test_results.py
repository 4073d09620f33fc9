"""Results as JSON: what is written is what is read, and nothing else is read."""

import json
from pathlib import Path

import pytest

from shortcast.benchmarks.results import (
    SCHEMA,
    Case,
    Ceiling,
    ClipFacts,
    ColdStart,
    Environment,
    GraphCost,
    LedgerEntry,
    Limits,
    MachineState,
    MemorySample,
    MemoryTrace,
    Parity,
    Results,
    Row,
    Run,
    Series,
    WarmUp,
    read_results,
    write_results,
)
from shortcast.errors import DataError


def some_results() -> Results:
    case = Case("onnxruntime", "fp32", "ctranslate2 float32", "cpu", 2, "file", "single-stream")
    memory = MemoryTrace(
        300 << 20,
        "VmHWM",
        None,
        "no GPU",
        0.01,
        (MemorySample(0.0, 10, None), MemorySample(0.01, 20, 5)),
        (("import", 0.0),),
        (LedgerEntry("rest", 20, "difference"),),
    )
    state = MachineState(0.5, None, 2600.0, None, {"clocks_mhz": 1000})
    run = Run(
        repeat=0,
        order=1,
        cold=ColdStart(100.0, 200.0, 30.0),
        warm_up=WarmUp(10, 0.5, True),
        wall_s=1.0,
        cpu_s=1.5,
        clips=2,
        chunks=7,
        media_s=13.4,
        series=(Series("chunk", "ms", (1.0, 2.5)), Series("answer", "ms", (), "schedule")),
        memory=memory,
        before=state,
        after=state,
        outcome={"rate_per_s": 2.0},
    )
    parity = Parity("abc", 3, 1e-7, 1e-4, 0, True)
    refused = Row(Case("openvino", "fp32", "ctranslate2 int8", "cpu", 2, "engine", "offline"), None, (), {}, "openvino is not installed")
    return Results(
        schema=SCHEMA,
        created_utc="2026-01-01T00:00:00Z",
        command="shortcast bench",
        seed=7,
        quick=True,
        bundle={"id": "abc", "name": "demo", "source": "made clips"},
        clips=(ClipFacts("a.mp4", "ff", 13.4, 360, 640, "h264 and aac"),),
        environment=Environment({"cpu": "one"}, ("shared",)),
        limits=Limits((GraphCost("visual", "fp32", 10, 20, 30, 40),), (Ceiling("copy", 2, 1e10, "B/s", (1e10,)),)),
        rows=(Row(case, parity, (run,), {"UNSTABLE": "Run 1: its times were not steady."}), refused),
    )


def test_what_is_written_is_what_is_read(tmp_path: Path) -> None:
    write_results(some_results(), tmp_path / "bench.json")
    assert read_results(tmp_path / "bench.json") == some_results()
    assert read_results(tmp_path) == some_results()
    assert [path.name for path in tmp_path.iterdir()] == ["bench.json"]


def test_a_row_is_found_by_its_case() -> None:
    results = some_results()
    assert results.row(results.rows[0].case.key) is results.rows[0]
    assert results.row("another") is None


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda plain: plain.update(schema="0.9"), "schema is '0.9'"),
        (lambda plain: plain.update(surprise=1), "no results this version knows"),
        (lambda plain: plain["rows"][0].pop("case"), "no results this version knows"),
    ],
)
def test_other_files_are_refused(tmp_path: Path, change: object, says: str) -> None:
    write_results(some_results(), tmp_path / "bench.json")
    plain = json.loads((tmp_path / "bench.json").read_text())
    change(plain)  # type: ignore[operator]
    (tmp_path / "bench.json").write_text(json.dumps(plain))
    with pytest.raises(DataError, match=says):
        read_results(tmp_path)


def test_what_is_no_json_is_refused(tmp_path: Path) -> None:
    (tmp_path / "bench.json").write_text("[")
    with pytest.raises(DataError, match="cannot be read"):
        read_results(tmp_path)
