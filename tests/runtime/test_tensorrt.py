"""TensorRT engines on a GPU that is not there: the fake is strict about order, memory and captures, and computes with ONNX Runtime."""

from __future__ import annotations

import gc
import json
import re
import shutil
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shortcast.errors import EngineError
from shortcast.export.tensorrt import BuildOptions, build_engine
from shortcast.runtime.bundle import Bundle
from shortcast.runtime.chunks import read_chunks
from shortcast.runtime.engine_record import Profile
from shortcast.runtime.engines import Engine, open_engine, open_engines
from shortcast.runtime.engines.device_memory import DeviceMemory
from shortcast.runtime.engines.state import HostStepper, Stepper, stepper
from shortcast.runtime.engines.tensorrt import SHAPES, TensorRTEngine
from shortcast.runtime.gpu_findings import driver_version
from shortcast.runtime.media import ReadOptions
from shortcast.runtime.score import Score
from shortcast.runtime.scorer import Scorer

Bundles = Callable[..., Path]
STEPS = 4


@pytest.fixture(params=["tensorrt", "tensorrt_rtx"])
def flavour(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def graphs(bundle_with_engines: Bundles, flavour: str) -> list[Path]:
    bundle = bundle_with_engines(flavour)
    return [bundle / "onnx" / f"{graph}.fp32.onnx" for graph in ("visual", "fusion")]


@pytest.fixture
def engines(gpu: Any, graphs: list[Path]) -> Iterator[list[TensorRTEngine]]:
    opened: list[Any] = list(open_engines(graphs, backend="tensorrt"))
    yield opened
    while opened:
        opened.pop().close()
    assert gpu.cuda.leaks() == {}


@pytest.fixture(scope="module")
def reference(demo: Path) -> Iterator[list[Engine]]:
    engines = open_engines([demo / "onnx" / f"{graph}.fp32.onnx" for graph in ("visual", "fusion")], threads=1)
    yield list(engines)
    for engine in engines:
        engine.close()


def chunk(seed: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {"frames": rng.integers(0, 256, (1, 16, 160, 96, 3), dtype=np.uint8), "frame_mask": np.ones((1, 16), np.float32)}


def fusion_feeds(chunks: int, batch: int = 1) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(chunks)
    masks = {f"{name}_mask": np.ones((batch, chunks), np.float32) for name in ("visual", "audio", "chunk")}
    return {
        "visual": rng.standard_normal((batch, chunks, 128)).astype(np.float32),
        "audio": rng.standard_normal((batch, chunks, 384)).astype(np.float32),
        **masks,
    }


def close(got: dict[str, Any], wanted: dict[str, Any], atol: float = 1e-5) -> None:
    assert set(got) == set(wanted)
    for name in wanted:
        np.testing.assert_allclose(got[name], wanted[name], atol=atol, rtol=1e-4, err_msg=name)


# State


def test_state_stays_on_the_gpu_and_equals_state_that_is_passed(gpu: Any, engines: list[TensorRTEngine], reference: list[Engine]) -> None:
    host, state = HostStepper(reference[0]), engines[0].begin()
    theirs = host.begin()
    for seed in range(STEPS):
        close(engines[0].step(chunk(seed), state), host.step(chunk(seed), theirs))
        close(state.snapshot(), theirs.snapshot())
    assert engines[0].capture_refused == ""
    state.close()


def test_a_reset_stream_is_a_new_one(gpu: Any, engines: list[TensorRTEngine]) -> None:
    state = engines[0].begin()
    first = engines[0].step(chunk(0), state)
    engines[0].step(chunk(1), state)
    state.reset()
    assert not any(values.any() for values in state.snapshot().values())
    close(engines[0].step(chunk(0), state), first, atol=0)
    state.close()


def test_a_snapshot_moves_a_stream_to_another_engine(gpu: Any, engines: list[TensorRTEngine], reference: list[Engine]) -> None:
    state, host = engines[0].begin(), HostStepper(reference[0])
    engines[0].step(chunk(0), state)
    moved = host.begin()
    moved.restore(state.snapshot())
    back = engines[0].begin()
    back.restore(moved.snapshot())
    wanted = engines[0].step(chunk(1), state)
    close(host.step(chunk(1), moved), wanted)
    close(engines[0].step(chunk(1), back), wanted, atol=0)
    state.close()
    back.close()


@pytest.mark.parametrize("damage", ["missing", "type", "batch"])
def test_a_snapshot_of_something_else_is_refused(gpu: Any, engines: list[TensorRTEngine], reference: list[Engine], damage: str) -> None:
    for engine in (engines[0], HostStepper(reference[0])):
        state = engine.begin()
        values = state.snapshot()
        match damage:
            case "missing":
                del values["h0"]
            case "type":
                values["h0"] = values["h0"].astype(np.float64)
            case "batch":
                values = {name: np.concatenate([value, value]) for name, value in values.items()}
        with pytest.raises(EngineError, match="expected"):
            state.restore(values)
        state.close()


def test_a_place_that_was_given_back_is_used_again(gpu: Any, engines: list[TensorRTEngine]) -> None:
    for seed in range(3):
        state = engines[0].begin()
        engines[0].step(chunk(seed), state)
        state.close()
        state.close()
    one = engines[0].memory.state_bytes
    kept = [engines[0].begin() for _ in range(3)]
    assert engines[0].memory.state_bytes == 3 * one
    for state in kept:
        state.close()


def test_a_stream_that_is_forgotten_gives_its_place_back(gpu: Any, engines: list[TensorRTEngine]) -> None:
    for _ in range(5):
        engines[0].begin()
        gc.collect()
    state = engines[0].begin()
    assert engines[0].memory.state_bytes == 2 * sum(values.nbytes for values in state.snapshot().values())
    state.close()


def test_a_closed_or_foreign_state_is_refused(gpu: Any, engines: list[TensorRTEngine], reference: list[Engine]) -> None:
    state = engines[0].begin()
    state.close()
    with pytest.raises(EngineError, match="state is closed"):
        engines[0].step(chunk(0), state)
    with pytest.raises(EngineError, match="state is closed"):
        state.reset()
    host = HostStepper(reference[0])
    for one, other in ((engines[0], host.begin()), (host, engines[0].begin()), (engines[0], engines[1].begin())):
        with pytest.raises(EngineError, match="another engine's"):
            one.step(chunk(0), other)


def test_a_step_that_fails_leaves_the_stream_where_it_was(gpu: Any, engines: list[TensorRTEngine], flavour: str) -> None:
    state = engines[0].begin()
    engines[0].step(chunk(0), state)
    engines[0].step(chunk(1), state)
    before = state.snapshot()
    gpu.cuda.failing["cudaGraphLaunch", gpu.cuda.calls.count("cudaGraphLaunch")] = "cudaErrorNotReady"
    with pytest.raises(EngineError, match=r"could not launch a graph \(cudaErrorNotReady\)"):
        engines[0].step(chunk(2), state)
    close(state.snapshot(), before, atol=0)
    engines[0].step(chunk(2), state)
    state.close()


# Many streams in one call


def test_streams_that_step_together_are_as_if_each_were_alone(gpu: Any, engines: list[TensorRTEngine], reference: list[Engine]) -> None:
    host = HostStepper(reference[0])
    for steps in (engines[0], host):
        apart, together = [steps.begin() for _ in range(3)], [steps.begin() for _ in range(3)]
        for turn in range(3):
            # One stream begins later: streams that share a call need not be equally old.
            rows = range(3) if turn else range(2)
            feeds = [chunk(10 * row + turn) for row in rows]
            wanted = [steps.step(feed, apart[row]) for row, feed in zip(rows, feeds, strict=True)]
            for got, want in zip(steps.step_many(feeds, [together[row] for row in rows]), wanted, strict=True):
                close(got, want)
        for one, other in zip(together, apart, strict=True):
            close(one.snapshot(), other.snapshot())
            one.close()
            other.close()


def test_a_batch_beyond_a_power_of_two_is_padded_and_no_row_shows_it(
    gpu: Any, engines: list[TensorRTEngine], reference: list[Engine]
) -> None:
    states, host = [engines[0].begin() for _ in range(5)], HostStepper(reference[0])
    for got, feed in zip(engines[0].step_many([chunk(k) for k in range(5)], states), map(chunk, range(5)), strict=True):
        close(got, host.step(feed, host.begin()))
    for state in states:
        state.close()


def test_what_cannot_step_together_is_refused(gpu: Any, engines: list[TensorRTEngine], reference: list[Engine]) -> None:
    for steps in (engines[0], HostStepper(reference[0])):
        states = [steps.begin(), steps.begin()]
        with pytest.raises(EngineError, match="expected feeds and a state for each"):
            steps.step_many([chunk(0)], states)
        with pytest.raises(EngineError, match="chunks alike"):
            steps.step_many([chunk(0), {name: np.concatenate([v, v]) for name, v in chunk(1).items()}], states)
        for state in states:
            state.close()
    state = engines[0].begin()
    with pytest.raises(EngineError, match="cannot step twice"):
        engines[0].step_many([chunk(0), chunk(1)], [state, state])
    state.close()


def test_more_rows_than_the_engine_was_built_for_is_an_error(gpu: Any, engines: list[TensorRTEngine]) -> None:
    states = [engines[0].begin() for _ in range(9)]
    with pytest.raises(EngineError, match=r"takes batch 1\.\.8, best at 1, and was given batch 9; .*--engines-only"):
        engines[0].step_many([chunk(k) for k in range(9)], states)
    for state in states:
        state.close()


# Shapes


@pytest.mark.parametrize("chunks", [1, 2, 3, 5, 31, 32, 33, 200])
def test_chunks_are_rounded_up_and_masked_without_a_trace(
    gpu: Any, engines: list[TensorRTEngine], reference: list[Engine], chunks: int
) -> None:
    close(engines[1].run(fusion_feeds(chunks, 2)), reference[1].run(fusion_feeds(chunks, 2)))


def test_a_growing_clip_takes_few_shapes_and_no_more_than_are_kept(gpu: Any, engines: list[TensorRTEngine], flavour: str) -> None:
    for chunks in range(1, 33):
        engines[1].run(fusion_feeds(chunks))
    contexts = gpu.trt(flavour).calls.count("create_execution_context")
    assert contexts == 6
    for batch in (2, 4, 8):
        for chunks in (1, 2, 4, 8, 16, 32):
            engines[1].run(fusion_feeds(chunks, batch))
    gc.collect()
    assert gpu.cuda.live["context"] == SHAPES


def test_a_clip_longer_than_the_profile_is_an_error(gpu: Any, engines: list[TensorRTEngine]) -> None:
    with pytest.raises(EngineError, match=r"chunks 1\.\.256, best at 32, and was given batch 1, chunks 257"):
        engines[1].run(fusion_feeds(257))


def test_of_several_profiles_the_first_that_holds_the_sizes_is_used(gpu: Any, graphs: list[Path], flavour: str) -> None:
    gpu.trt(flavour).profiles = 2
    _, fusion = opened = list(open_engines(graphs, backend="tensorrt"))
    fusion._plan.profiles = (Profile.of(batch=(1, 1, 2), chunks=(1, 4, 6)), Profile.of(batch=(1, 4, 8), chunks=(8, 32, 64)))
    for batch, chunks in ((1, 3), (2, 6), (3, 5), (1, 40)):
        outputs = fusion.run(fusion_feeds(chunks, batch))
        assert outputs["score"].shape == (batch, chunks)
    # Rounded up within a profile's limits: to 4 and 6 chunks in the first, to 8 and 64 in the second.
    assert gpu.trt(flavour).chosen == [0, 0, 1, 1]
    with pytest.raises(EngineError, match=r"takes batch 1\.\.2.* \| batch 1\.\.8.*was given batch 9, chunks 1"):
        fusion.run(fusion_feeds(1, 9))
    gpu.trt(flavour).failing = {("set_optimization_profile_async", 4)}
    with pytest.raises(EngineError, match="refuses optimisation profile 0"):
        fusion.run(fusion_feeds(1))
    for engine in opened:
        engine.close()


def test_preparing_leaves_nothing_to_be_opened_later(gpu: Any, engines: list[TensorRTEngine], flavour: str) -> None:
    engines[0].prepare()
    engines[1].prepare(chunks=32)
    trt, captures = gpu.trt(flavour), gpu.cuda.calls.count("cudaStreamBeginCapture")
    contexts = trt.calls.count("create_execution_context")
    state = engines[0].begin()
    for turn in range(3):
        engines[0].step(chunk(turn), state)
    for chunks in (1, 3, 32):
        engines[1].run(fusion_feeds(chunks))
    assert trt.calls.count("create_execution_context") == contexts
    assert gpu.cuda.calls.count("cudaStreamBeginCapture") == captures
    state.close()


# Captured graphs


def test_each_side_of_a_state_is_one_captured_graph(gpu: Any, engines: list[TensorRTEngine]) -> None:
    state = engines[0].begin()
    for turn in range(6):
        engines[0].step(chunk(turn), state)
    assert gpu.cuda.calls.count("cudaGraphInstantiate") == 2
    assert gpu.cuda.calls.count("cudaGraphLaunch") == 6
    state.close()


def test_work_that_cannot_be_captured_runs_plainly_and_says_so(gpu: Any, engines: list[TensorRTEngine], reference: list[Engine]) -> None:
    gpu.tensorrt.capturable = gpu.tensorrt_rtx.capturable = False
    host, state = HostStepper(reference[0]), engines[0].begin()
    theirs = host.begin()
    for seed in range(STEPS):
        close(engines[0].step(chunk(seed), state), host.step(chunk(seed), theirs))
    assert "captur" in engines[0].capture_refused or "refuses to run" in engines[0].capture_refused
    assert gpu.cuda.calls.count("cudaGraphLaunch") == 0
    state.close()


@pytest.mark.parametrize("call", ["cudaStreamEndCapture"])
def test_a_capture_that_is_invalidated_is_survived(gpu: Any, engines: list[TensorRTEngine], call: str) -> None:
    gpu.cuda.failing[call, 0] = "cudaErrorStreamCaptureInvalidated"
    state = engines[0].begin()
    first = engines[0].step(chunk(0), state)
    state.reset()
    close(engines[0].step(chunk(0), state), first, atol=0)
    assert "cudaErrorStreamCaptureInvalidated" in engines[0].capture_refused
    state.close()


# Memory


def test_engines_opened_together_share_one_scratch_block(gpu: Any, engines: list[TensorRTEngine]) -> None:
    for engine in engines:
        engine.prepare(chunks=1)
    blocks = [allocation for allocation in gpu.cuda.allocations.values() if allocation.on_gpu and allocation.nbytes == 4096]
    assert len(blocks) == 1
    together = DeviceMemory.together([engine.memory for engine in engines])
    assert together.scratch_bytes == 4096
    assert together.weights_bytes == 2_000_000
    assert together.scratch_bytes + together.io_bytes + together.state_bytes == gpu.cuda.used
    assert together.total_bytes == gpu.cuda.used + 2_000_000


def test_before_10_16_the_weights_are_not_known(gpu: Any, bundle_with_engines: Bundles) -> None:
    gpu.tensorrt.__version__ = "10.13.0.35"
    bundle = bundle_with_engines("tensorrt", ("fp32",), version="10.13.0.35")
    with open_engine(bundle / "onnx" / "visual.fp32.onnx", backend="tensorrt") as engine:
        assert isinstance(engine, TensorRTEngine)
        assert engine.memory.weights_bytes is None
        assert DeviceMemory.together([engine.memory, DeviceMemory(1, 2, 3, 4)]).weights_bytes is None


def test_the_first_engine_to_close_leaves_the_other_running(gpu: Any, graphs: list[Path]) -> None:
    visual, fusion = open_engines(graphs, backend="tensorrt")
    visual.close()
    visual.close()
    fusion.run(fusion_feeds(2))
    fusion.close()
    with pytest.raises(EngineError, match="the engine is closed"):
        fusion.run(fusion_feeds(2))
    with pytest.raises(EngineError, match="the engine is closed"):
        stepper(visual).begin()
    del visual, fusion
    assert gpu.cuda.leaks() == {}


# What goes wrong


def use(graphs: list[Path]) -> None:
    """Everything that allocates: opening, a step alone, steps together, a run."""
    opened: list[Any] = list(open_engines(graphs, backend="tensorrt"))
    try:
        states = []
        try:
            for _ in range(2):
                states.append(opened[0].begin())
            opened[0].step(chunk(0), states[0])
            opened[0].step_many([chunk(0), chunk(1)], states)
            opened[1].run(fusion_feeds(2))
        finally:
            for state in states:
                state.close()
    finally:
        while opened:
            opened.pop().close()


def test_memory_that_runs_out_anywhere_is_one_sentence_and_no_leak(gpu: Any, graphs: list[Path]) -> None:
    use(graphs)
    assert gpu.cuda.leaks() == {}
    counts = {call: gpu.cuda.calls.count(call) for call in ("cudaMalloc", "cudaHostAlloc", "cudaGraphInstantiate")}
    for call, times in counts.items():
        # Each of the first and some of the others: what comes later is more of the same.
        for time in sorted({*range(min(times, 4)), *range(0, times, 10), times - 1}):
            gpu.cuda.calls.clear()
            gpu.cuda.failing = {(call, time): "cudaErrorMemoryAllocation"}
            with pytest.raises(EngineError, match=r"has not the memory to .* MiB are free; .*--max-batch 1"):
                use(graphs)
            assert gpu.cuda.leaks() == {}, (call, time)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        ("create_execution_context", "makes no execution context.*too little GPU memory"),
        ("execute_async_v3", "refuses to run"),
        ("set_input_shape", r"refuses frames of shape \(1, 16, 160, 96, 3\)"),
        ("set_tensor_address", "refuses the address of frames"),
        ("infer_shapes", "lacks the shapes of frames"),
        ("deserialize_cuda_engine", "cannot load .*engine.plan: the plan is malformed; build it again"),
    ],
)
def test_what_tensorrt_refuses_is_an_error_and_no_leak(gpu: Any, graphs: list[Path], flavour: str, call: str, words: str) -> None:
    gpu.trt(flavour).failing = {(call, 0)}
    with pytest.raises(EngineError, match=words):
        use(graphs)
    assert gpu.cuda.leaks() == {}


@pytest.mark.parametrize(
    "call", ["cudaStreamSynchronize", "cudaGraphLaunch", "cudaMemcpyAsync", "cudaMemsetAsync", "cudaStreamBeginCapture"]
)
@pytest.mark.parametrize(
    ("error", "words"), [("cudaErrorIllegalAddress", "answers this process no more"), ("cudaErrorNotReady", r"\(cudaErrorNotReady\)")]
)
def test_an_error_at_any_time_is_said_and_nothing_hangs(gpu: Any, bundle_with_engines: Bundles, call: str, error: str, words: str) -> None:
    graphs = [bundle_with_engines() / "onnx" / f"{graph}.fp32.onnx" for graph in ("visual", "fusion")]
    use(graphs)
    quiet, times = 0, gpu.cuda.calls.count(call)
    for time in range(0, times, 1 + times // 6):
        gpu.cuda.calls.clear()
        gpu.cuda.failing = {(call, time): error}
        try:
            use(graphs)
            quiet += 1
        except EngineError as caught:
            assert re.search(words, str(caught))  # noqa: PT017 (whether it is raised depends on when it happens)
        # A lost GPU takes its memory with it.
        gpu.cuda.forget()
    # Waiting before memory is freed may fail without a word, and a copy in a capture that fails means that there will be no graph.
    tolerated = call == "cudaStreamSynchronize" or (call, error) == ("cudaMemcpyAsync", "cudaErrorNotReady")
    assert tolerated or not quiet


def test_a_lost_gpu_is_named_once_and_closing_is_quiet(gpu: Any, engines: list[TensorRTEngine]) -> None:
    state = engines[0].begin()
    engines[0].step(chunk(0), state)
    gpu.cuda.failing["cudaStreamSynchronize", gpu.cuda.calls.count("cudaStreamSynchronize")] = "cudaErrorIllegalAddress"
    with pytest.raises(EngineError, match=r"cudaErrorIllegalAddress.*answers this process no more: start again"):
        engines[0].step(chunk(1), state)
    state.close()
    for engine in engines:
        engine.close()
    gpu.cuda.forget()


@pytest.mark.parametrize("damage", ["missing", "extra", "type", "rank"])
def test_feeds_of_a_step_are_checked(gpu: Any, engines: list[TensorRTEngine], reference: list[Engine], damage: str) -> None:
    for steps in (engines[0], HostStepper(reference[0])):
        state, given = steps.begin(), chunk(0)
        match damage:
            case "missing":
                del given["frame_mask"]
            case "extra":
                given["h0"] = np.zeros((1, 32, 20, 12), np.float64)
            case "type":
                given["frames"] = given["frames"].astype(np.float32)
            case "rank":
                given["frames"] = given["frames"][0]
        with pytest.raises(EngineError, match="expected"):
            steps.step(given, state)
        state.close()


def test_an_output_of_another_shape_is_an_error(gpu: Any, graphs: list[Path], flavour: str) -> None:
    gpu.trt(flavour).tensors_are = lambda name, shape: (*shape[:-1], shape[-1] + 1)
    with pytest.raises(EngineError, match=r"makes embedding of shape \(1, 129\), and the graph \(1, 128\)"):
        use(graphs)
    assert gpu.cuda.leaks() == {}


# Finding the engine


def test_without_a_gpu_there_is_no_engine(gpu: Any, graphs: list[Path]) -> None:
    gpu.cuda.gpus = 0
    with pytest.raises(EngineError, match="no GPU is here"):
        open_engines(graphs, backend="tensorrt")


def test_the_cpu_is_not_where_tensorrt_runs(graphs: list[Path]) -> None:
    with pytest.raises(EngineError, match="run on the GPU, and the device asked for is cpu"):
        open_engines(graphs, backend="tensorrt", device="cpu")


def test_no_engine_names_the_command_that_builds_one(gpu: Any, demo: Path, bundle_with_engines: Bundles) -> None:
    with pytest.raises(
        EngineError, match=r"no fp16 TensorRT engine of its visual graph, no engine at all; .*--engines-only .*demo.shortcast"
    ):
        open_engine(demo / "onnx" / "visual.fp16.onnx", backend="tensorrt")
    half = bundle_with_engines("tensorrt", ("fp16",))
    with pytest.raises(EngineError, match=r"no fp32 TensorRT engine .*only fp16 ones \(ask for one with --precision\).*--precision fp32"):
        open_engine(half / "onnx" / "visual.fp32.onnx", backend="tensorrt")


def test_the_field_that_differs_is_named(gpu: Any, graphs: list[Path], flavour: str) -> None:
    gpu.trt(flavour).__version__ = "10.17.0.1"
    with pytest.raises(EngineError, match=r"TensorRT version: built with .*, wanted 10\.17\.0\.1.*--target tensorrt"):
        open_engines(graphs, backend="tensorrt")
    assert gpu.cuda.leaks() == {}


def test_another_gpu_is_refused(gpu: Any, graphs: list[Path], flavour: str) -> None:
    gpu.cuda.capability = (7, 5)
    with pytest.raises(EngineError, match=r"compute capabilities: built for 8\..*, wanted 7\.5"):
        open_engines(graphs, backend="tensorrt")


def test_a_missing_package_is_named_with_its_extra(gpu: Any, graphs: list[Path], flavour: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, flavour, None)
    with pytest.raises(
        EngineError, match=rf"need the package {flavour}; install it: pip install 'shortcast\[{flavour.replace('_', '-')}\]'"
    ):
        open_engines(graphs, backend="tensorrt")


def test_tensors_that_are_not_the_graphs_are_refused(gpu: Any, bundle_with_engines: Bundles, tmp_path: Path) -> None:
    bundle = tmp_path / "b.shortcast"
    shutil.copytree(bundle_with_engines("tensorrt"), bundle)
    manifest = json.loads((bundle / "manifest.json").read_text())
    manifest["graphs"]["visual"]["fp32"]["outputs"][0]["shape"] = ["batch", 64]
    (bundle / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(EngineError, match=r"expected embedding: float32 \(batch, 64\), got float32 \(-1, 128\)"):
        open_engine(bundle / "onnx" / "visual.fp32.onnx", backend="tensorrt")
    manifest["graphs"]["visual"]["fp32"]["outputs"][0]["name"] = "other"
    (bundle / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(EngineError, match=r"has the tensors .*'embedding'.*and its graph .*'other'"):
        open_engine(bundle / "onnx" / "visual.fp32.onnx", backend="tensorrt")
    assert gpu.cuda.leaks() == {}


# TensorRT-RTX's own


def test_the_runtime_cache_is_kept_between_runs_and_renamed_whole(gpu: Any, bundle_with_engines: Bundles, tmp_path: Path) -> None:
    graph = bundle_with_engines("tensorrt_rtx") / "onnx" / "visual.fp32.onnx"
    folder = tmp_path / "cache" / "shortcast" / "tensorrt-rtx"
    open_engine(graph, backend="tensorrt").close()
    (file,) = folder.iterdir()
    assert file.suffix == ".cache"
    open_engine(graph, backend="tensorrt").close()
    assert gpu.tensorrt_rtx.caches[-1].loaded
    file.write_bytes(b"of another driver")
    open_engine(graph, backend="tensorrt").close()
    assert file.read_bytes().startswith(gpu.fake.CACHE)
    assert [entry.name for entry in folder.iterdir()] == [file.name]
    gpu.cuda.name = "Another GPU"
    open_engine(graph, backend="tensorrt").close()
    assert len(list(folder.iterdir())) == 2


def test_a_cache_that_cannot_be_written_stops_nothing(gpu: Any, bundle_with_engines: Bundles, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file where the folder should be")
    open_engine(bundle_with_engines("tensorrt_rtx") / "onnx" / "visual.fp32.onnx", backend="tensorrt").close()
    assert gpu.cuda.leaks() == {}


# As a user meets it


def test_a_clip_scored_through_it_equals_onnxruntime(gpu: Any, bundle_with_engines: Bundles, flavour: str, sample: Path) -> None:
    bundle = Bundle.open(bundle_with_engines(flavour))
    options = ReadOptions(use_sound=False)
    with Scorer(bundle, threads=1) as scorer:
        wanted = [score.z for score in scorer.stream(sample, options=options)]
    with Scorer(bundle, backend="tensorrt", threads=1) as scorer:
        got = [score.z for score in scorer.stream(sample, options=options)]
        again = [score.z for score in scorer.stream(sample, options=options)]
    np.testing.assert_allclose(got, wanted, atol=1e-5)
    assert again == got
    del scorer
    assert gpu.cuda.leaks() == {}


@pytest.mark.parametrize("backend", ["onnxruntime", "tensorrt"])
def test_clips_scored_together_are_as_if_each_were_alone(gpu: Any, bundle_with_engines: Bundles, sample: Path, backend: str) -> None:
    """Of three clips one begins two chunks later and one lacks pictures now and then; all share the calls."""
    bundle = Bundle.open(bundle_with_engines())
    with read_chunks(sample, bundle.contract, options=ReadOptions(use_sound=False)) as read:
        seen = [replace(part, sample_mask=np.zeros_like(part.sample_mask)) for part in read][:5]
    blind = [replace(part, frame_mask=part.frame_mask & bool(k % 2)) for k, part in enumerate(seen)]
    with Scorer(bundle, backend=backend, threads=1) as scorer:
        alone = []
        for clip in (seen, seen[:3], blind):
            stream = scorer.new_stream()
            alone.append([scorer.step(stream, part) for part in clip])
            stream.close()
        streams = [scorer.new_stream() for _ in range(3)]
        together: list[list[Score]] = [[], [], []]
        for turn in range(5):
            rows = [row for row in range(3) if row != 1 or turn >= 2]
            parts = [(seen, seen, blind)[row][turn - 2 * (row == 1)] for row in rows]
            for row, score in zip(rows, scorer.step_many([streams[row] for row in rows], parts), strict=True):
                together[row].append(score)
        for stream in streams:
            stream.close()
    for got, wanted in zip(together, alone, strict=True):
        np.testing.assert_allclose([score.z for score in got], [score.z for score in wanted], atol=1e-5)
        for one, other in zip(got, wanted, strict=True):
            np.testing.assert_allclose(one.chunk_weights, other.chunk_weights, atol=1e-5)
            assert (one.has_pictures, one.has_sound) == (other.has_pictures, other.has_sound)


def test_threads_take_turns(gpu: Any, engines: list[TensorRTEngine], reference: list[Engine]) -> None:
    found: dict[int, list[Any]] = {}

    def follow(stream: int) -> None:
        state = engines[0].begin()
        found[stream] = [engines[0].step(chunk(10 * stream + turn), state)["embedding"] for turn in range(3)]
        state.close()

    threads = [threading.Thread(target=follow, args=(stream,)) for stream in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    host = HostStepper(reference[0])
    for stream in range(3):
        state = host.begin()
        for turn in range(3):
            wanted = host.step(chunk(10 * stream + turn), state)["embedding"]
            np.testing.assert_allclose(found[stream][turn], wanted, atol=1e-5)


def test_an_engine_with_state_steps_itself_and_others_are_stepped(gpu: Any, engines: list[TensorRTEngine], reference: list[Engine]) -> None:
    assert stepper(engines[0]) is engines[0]
    assert isinstance(engines[0], Stepper)
    assert isinstance(stepper(reference[0]), HostStepper)


def test_the_fake_offers_nothing_that_the_real_module_lacks(gpu: Any, trt: Any) -> None:
    fake = gpu.fake
    pairs = {
        fake.FakeContext: trt.IExecutionContext,
        fake.FakeEngine: trt.ICudaEngine,
        fake.FakeRuntime: trt.Runtime,
        fake.FakeRuntimeConfig: trt.IRuntimeConfig,
        fake.FakeRuntimeCache: trt.IRuntimeCache,
    }
    for ours, theirs in pairs.items():
        assert {name for name in vars(ours) if not name.startswith("_")} <= set(dir(theirs))


@pytest.mark.skipif(driver_version() is not None, reason="an NVIDIA driver is here")
def test_the_real_tensorrt_rtx_is_reached_and_says_why_it_loads_nothing(
    trt: Any, gpu: Any, demo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A real plan and the real module; of a GPU there is only the CUDA runtime's word, which TensorRT does not believe."""
    monkeypatch.setitem(sys.modules, "tensorrt_rtx", trt)
    bundle = tmp_path / "demo.shortcast"
    shutil.copytree(demo, bundle)
    graph = bundle / "onnx" / "fusion.fp32.onnx"
    build_engine(graph, bundle / "engines", BuildOptions(target="tensorrt-rtx", precision="fp32"))
    with pytest.raises(EngineError, match=r"tensorrt_rtx cannot load .*engine\.plan: .*CUDA.*; build it again on this machine"):
        open_engine(graph, backend="tensorrt")
    assert gpu.cuda.leaks() == {}
