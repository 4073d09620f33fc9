"""Two benchmarks side by side: verdicts, rules, and what the command says and returns."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest
import typer
from typer.testing import CliRunner

from shortcast.benchmarks.compare import Compared, compare, established
from shortcast.benchmarks.results import Environment, Results, write_results
from shortcast.benchmarks.rules import judge, parse_rule
from shortcast.cli_bench_compare import compare as command

ONE = "onnxruntime fp32 + ctranslate2 float32, cpu, 2 threads, file, single-stream"


@pytest.fixture(scope="module")
def before(made: ModuleType) -> Results:
    return smaller(made, 1)


@pytest.fixture(scope="module")
def after(made: ModuleType) -> Results:
    """Half as fast again, as large, on other software."""
    slow = smaller(made, 2, slower=1.5)
    return replace(slow, environment=Environment(slow.environment.facts | {"version of onnxruntime": "1.33.0"}))


def smaller(made: ModuleType, seed: int, **options: float) -> Results:
    results: Results = made.made_results(seed, repeats=4, count=30, contenders=made.CONTENDERS[3:5], **options)
    return replace(results, rows=tuple(row for row in results.rows if row.case.scope == "file"))


@pytest.fixture(scope="module")
def compared(before: Results, after: Results) -> Compared:
    return compare(before, after)


def verdict(compared: Compared, quantity: str, series: str = "", case: str = ONE) -> str:
    return next(one.verdict for one in compared.comparisons if (one.case, one.quantity, one.series) == (case, quantity, series))


def test_what_became_slower_is_said_and_what_did_not_change_is_not(compared: Compared) -> None:
    assert verdict(compared, "median", "clip") == "slower"
    assert verdict(compared, "throughput") == "slower"
    assert verdict(compared, "cold") == "slower"
    assert verdict(compared, "rss") == "no evidence"


def test_the_other_way_round_it_is_faster(before: Results, after: Results) -> None:
    assert verdict(compare(after, before), "median", "clip") == "faster"


def test_too_few_samples_give_no_figure(compared: Compared) -> None:
    one = next(one for one in compared.comparisons if (one.quantity, one.series) == ("p99", "clip"))
    assert one.verdict == "insufficient (needs 662)"
    assert one.ratio is None


def test_a_server_is_compared_by_its_rate_and_live_by_its_streams(compared: Compared) -> None:
    by_case: dict[str, set[str]] = {}
    for one in compared.comparisons:
        by_case.setdefault(one.case.rsplit(", ", 1)[1], set()).add(one.quantity)
    assert "rate" in by_case["server"]
    assert "streams" in by_case["live"]
    assert "throughput" not in by_case["server"] | by_case["live"]


def test_nothing_is_found_between_a_benchmark_and_itself(before: Results) -> None:
    found = compare(before, before)
    assert {one.verdict for one in found.comparisons} <= {"no evidence", "insufficient (needs 662)"}
    assert found.differences == ()
    assert found.warnings == ()


def test_conditions_that_differ_come_first(compared: Compared) -> None:
    assert compared.differences == (("version of onnxruntime", "1.32.0", "1.33.0"),)


def test_other_bundles_clips_and_labels_are_warned_of(made: ModuleType, before: Results) -> None:
    other = replace(before, bundle=before.bundle | {"id": "c" * 64}, clips=before.clips[:1], quick=True)
    rows = tuple(
        replace(row, parity=replace(row.parity, bundle="c" * 64), labels={"THROTTLED": "it was hot"})
        for row in other.rows
        if row.parity is not None
    )
    said = " ".join(compare(before, replace(other, rows=rows)).warnings)
    for words in ("different bundles", "different clips", "--quick", "B has rows that are labelled THROTTLED"):
        assert words in said


def test_a_case_that_one_side_lacks_is_named_with_the_reason(before: Results) -> None:
    row = before.rows[0]
    assert row.parity is not None
    wrong = replace(before, rows=(replace(row, runs=(), refusal="wrong values"), *before.rows[1:]))
    assert compare(before, wrong).only_in_a == (f"{row.case.key}: in the other, wrong values",)
    assert compare(replace(before, rows=before.rows[1:]), before).only_in_b == (row.case.key,)
    failed = replace(row, parity=replace(row.parity, passed=False))
    assert compare(before, replace(before, rows=(failed, *before.rows[1:]))).only_in_a[0].startswith(row.case.key)


def test_one_run_is_no_evidence(before: Results, after: Results) -> None:
    alone = replace(before, rows=tuple(replace(row, runs=row.runs[:1]) for row in before.rows))
    found = compare(alone, after)
    assert found.judged == 0
    one = next(one for one in found.comparisons if one.quantity == "median")
    assert one.verdict == "no evidence"
    assert "one run" in one.note


@pytest.mark.parametrize(
    ("chances", "holding"),
    [
        ([], []),
        ([0.04], [True]),
        ([0.04, 0.9], [False, False]),
        ([0.02, 0.9], [True, False]),
        ([0.04, 0.03, 0.045], [True, True, True]),
        ([0.001, 0.03, 0.9, 0.9], [True, False, False, False]),
    ],
)
def test_verdicts_allow_for_the_number_of_comparisons(chances: list[float], holding: list[bool]) -> None:
    assert established(chances, 0.05) == holding


@pytest.mark.parametrize(
    ("text", "quantity", "above", "bound"),
    [
        ("p99>+5%", "p99", True, 1.05),
        (" throughput < -10 % ", "throughput", False, 0.9),
        ("rss>+0.5%", "rss", True, 1.005),
        ("median>-5%", "median", True, 0.95),
    ],
)
def test_a_rule_is_read(text: str, quantity: str, above: bool, bound: float) -> None:
    rule = parse_rule(text)
    assert (rule.quantity, rule.above) == (quantity, above)
    assert rule.bound == pytest.approx(bound)


@pytest.mark.parametrize("text", ["", "p99", "p99>5%", "p99>+5", "p98>+5%", "p99>=+5%", "p99>+5%;rm", "throughput<-100%"])
def test_another_rule_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"expected METRIC|nothing can fall"):
        parse_rule(text)


@pytest.mark.parametrize(
    ("rule", "states"),
    [
        ("median>+5%", {"met"}),
        ("median>+500%", {"not met"}),
        ("median>+50%", {"undecided"}),
        ("throughput<-10%", {"met"}),
        ("rss>+20%", {"not met"}),
        ("vram>+5%", {"undecided"}),
        ("p99>+500%", {"not met", "undecided"}),
    ],
)
def test_a_rule_is_met_not_met_or_cannot_be_told(compared: Compared, rule: str, states: set[str]) -> None:
    clips = replace(compared, comparisons=tuple(one for one in compared.comparisons if one.series in ("clip", "answer", "")))
    assert {one.state for one in judge([parse_rule(rule)], clips)} == states


def test_a_case_that_b_lost_leaves_rules_undecided(before: Results) -> None:
    lost = compare(before, replace(before, rows=before.rows[1:]))
    assert any(one.state == "undecided" and one.where == before.rows[0].case.key for one in judge([parse_rule("rss>+50%")], lost))


@pytest.fixture(scope="module")
def files(before: Results, after: Results, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    folder = tmp_path_factory.mktemp("reports")
    write_results(before, folder / "a.json")
    write_results(after, folder / "b.json")
    return str(folder / "a.json"), str(folder / "b.json")


app = typer.Typer()
app.command()(command)


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ([], 0),
        (["--fail-if", "median>+5%"], 3),
        (["--fail-if", "median>+500%"], 0),
        (["--fail-if", "vram>+5%"], 1),
        (["--fail-if", "vram>+5%", "--allow-undecided"], 0),
        (["--fail-if", "vram>+5%", "--fail-if", "median>+5%", "--allow-undecided"], 3),
        (["--fail-if", "median>5"], 2),
    ],
)
def test_exit_codes(files: tuple[str, str], options: list[str], code: int) -> None:
    assert CliRunner().invoke(app, [*files, "--only", "int8, cpu, 2 threads, file, single-stream", *options]).exit_code == code


def test_the_table_says_it_all(files: tuple[str, str]) -> None:
    said = CliRunner().invoke(app, [*files, "--only", ONE, "--fail-if", "median>+5%"])
    assert "1.33.0" in said.stdout
    assert "insufficient (needs 662)" in said.stdout
    assert "slower" in said.stdout
    assert "comparisons show a difference" in said.stdout
    assert "median>+5% is met: median of clip" in said.stderr


def test_json_has_everything(files: tuple[str, str]) -> None:
    said = CliRunner().invoke(app, [*files, "--only", ONE, "--json", "--fail-if", "rss>+50%"])
    plain = json.loads(said.stdout)
    assert plain["differences"] == [["version of onnxruntime", "1.32.0", "1.33.0"]]
    found = {(one["quantity"], one["series"]): one for one in plain["comparisons"]}
    median = found["median", "clip"]
    assert median["ratio"]["low"] < median["ratio"]["estimate"] < median["ratio"]["high"]
    assert found["p99", "clip"]["ratio"] is None
    assert plain["judged"] == sum(one["ratio"] is not None for one in plain["comparisons"])
    assert [rule["state"] for rule in plain["rules"]] == ["not met"]


def test_what_is_no_report_is_one_sentence(files: tuple[str, str], tmp_path: Path) -> None:
    said = CliRunner().invoke(app, [files[0], str(tmp_path / "absent.json")])
    assert "cannot be read as a benchmark's results" in str(said.exception)
