"""A budget of GPU memory: the fastest that fits, in numbers that add up, or a sentence with the least that would do."""

from pathlib import Path

import pytest
from onnx import TensorProto, helper, save

from shortcast.benchmarks.budget import Option, fit_budget, gpu_options, parse_bytes
from shortcast.benchmarks.graph_cost import live_bytes
from shortcast.benchmarks.results import LedgerEntry
from shortcast.errors import EngineError
from shortcast.runtime.bundle import Bundle
from shortcast.runtime.whisper import find_whisper

MIB = 1 << 20


@pytest.mark.parametrize(
    ("text", "size"), [("1.5GiB", 3 << 29), ("800MB", 800_000_000), ("512 mib", 512 * MIB), ("7", 7), ("2 k", None), ("1kB", 1000)]
)
def test_amounts_of_memory_are_read(text: str, size: int | None) -> None:
    if size is None:
        with pytest.raises(ValueError, match="is no amount of memory"):
            parse_bytes(text)
    else:
        assert parse_bytes(text) == size


@pytest.mark.parametrize("text", ["", "0", "-1GiB", "GiB", "1.5.2GiB", "1e9", "1 GiB extra", "0.1B", "nan"])
def test_what_is_no_amount_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="expected a number with a unit, such as"):
        parse_bytes(text)


def option(batch: int, *sizes: int) -> Option:
    parts = tuple(LedgerEntry(f"part {i}", size, "planned") for i, size in enumerate(sizes))
    return Option("fp16", batch, False, "cuda", "cuda", "float16", parts)


@pytest.mark.parametrize(("budget", "batch"), [(1000, 8), (100, 8), (99, 4), (50, 4), (49, 1), (20, 1)])
def test_the_first_that_fits_is_taken(budget: int, batch: int) -> None:
    fit = fit_budget(budget, [option(8, 60, 40), option(4, 50), option(1, 20)])
    assert fit.option.batch == batch
    assert fit.option.need_bytes <= budget
    assert all(passed.need_bytes > budget for passed in fit.passed_over)


def test_where_none_fits_the_least_need_is_said() -> None:
    with pytest.raises(EngineError, match=r"nothing fits into 1\.0 MiB .* batch 1, .* needs 2\.0 MiB") as caught:
        fit_budget(MIB, [option(8, 5 * MIB), option(1, 2 * MIB)])
    assert caught.value.exit_code == 1


def test_options_of_the_demo_bundle_get_smaller_and_add_up(demo: Path) -> None:
    weights = find_whisper("tiny.en")
    if weights is None:
        pytest.skip("the Whisper tiny.en weights are not here")
    options = gpu_options(Bundle.open(demo), ["fp16"], whisper=weights.path)
    assert len(set(options)) == len(options)
    needs = {str(each): each.need_bytes for each in options}
    first, last = options[0], options[-1]
    assert (first.batch, first.whisper_type, first.fusion_device) == (8, "float32", "cuda")
    assert (last.batch, last.whisper_device, last.fusion_device) == (1, "cpu", "cpu")
    assert last.need_bytes == min(needs.values())
    whisper = {each.whisper_type: part.bytes for each in options for part in each.parts if part.what == "Whisper weights"}
    # tiny.en has 37.8 million parameters.
    assert whisper["float32"] == pytest.approx(4 * 37.8e6, rel=0.03)
    assert whisper["float16"] == pytest.approx(whisper["float32"] / 2, rel=0.01)
    assert whisper["int8_float16"] < 0.6 * whisper["float16"]
    fit = fit_budget(last.need_bytes, options)
    assert fit.option is last
    assert fit.lines[0].endswith(f"{last.need_bytes / MIB:.1f} MiB of {last.need_bytes / MIB:.1f} MiB")


def test_measured_figures_take_the_place_of_planned_ones(demo: Path) -> None:
    options = gpu_options(Bundle.open(demo), ["fp16"], whisper=None, measured={"CUDA context": 123 * MIB})
    parts = {part.what: part for part in options[0].parts}
    assert parts["CUDA context"] == LedgerEntry("CUDA context", 123 * MIB, "measured")
    assert {part.source for what, part in parts.items() if what != "CUDA context"} == {"planned"}
    assert "Whisper weights" not in parts


def test_values_live_from_their_maker_to_their_last_reader(tmp_path: Path) -> None:
    # x -> a -> b -> c, and a is read again by d: a, b and c are there at once; d is an output and has its own place.
    nodes = [helper.make_node("Relu", [i], [o]) for i, o in ("xa", "ab", "bc")] + [helper.make_node("Sum", ["a", "c"], ["d"])]
    ends = [[helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 10])] for name in "xd"]
    model = helper.make_model(helper.make_graph(nodes, "g", *ends), opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    save(model, tmp_path / "g.onnx")
    assert live_bytes(tmp_path / "g.onnx", batch=2) == 3 * 2 * 10 * 4
