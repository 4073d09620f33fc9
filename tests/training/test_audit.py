"""Audits of tables with known faults, and of real ones."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shortcast.errors import DataError
from shortcast.training.audit import AuditReport, Finding, audit, audit_file
from shortcast.training.label_table import LabelTable, read_table
from shortcast.training.tails import quartiles_of, rounding_of, tail_of

DAY = 86400
NEWS_COLUMNS = {"author": "outlet", "created_at": "created_hour"}


def table(tmp_path: Path, columns: Mapping[str, Sequence[Any]], **roles: str) -> LabelTable:
    """A manifest-like table, through its file."""
    rows = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
    path = tmp_path / "labels.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return read_table(path, roles)


def counts(size: int, seed: int = 0) -> list[int]:
    return [int(value) for value in np.random.default_rng(seed).lognormal(8, 1.2, size) + 200]


def found(report: AuditReport, check: str) -> list[Finding]:
    return [finding for finding in report.findings if finding.check == check]


def test_a_clean_table_gets_notes_alone(tmp_path: Path) -> None:
    views, size = counts(300), 300
    clean = table(
        tmp_path,
        {
            "id": [f"c{index}" for index in range(size)],
            "author": [f"a{index % 60}" for index in range(size)],
            "views": views,
            "likes": [view // 10 for view in views],
            "duration_s": [5 + (index * 7) % 50 for index in range(size)],
            "created_at": [1_700_000_000 + index * 3600 for index in range(size)],
            "crawled_at": [1_700_000_000 + index * 3600 + 30 * DAY for index in range(size)],
        },
    )
    report = audit(clean, target="views")
    assert [finding for finding in report.findings if finding.severity != "note" and finding.check != "heavy tail"] == []
    assert report.measures.ages is not None
    assert (report.measures.ages.median_days, report.measures.ages.young) == (30, 0)
    assert report.measures.leakage is not None
    assert report.measures.leakage.features == ("duration_s", "hour of day", "weekday")


def test_views_below_likes_hidden_targets_and_unclear_numbers_are_found(tmp_path: Path) -> None:
    views: list[Any] = [*counts(50), None, "1.234", "much"]
    likes = [5] * 49 + [10**9] + [1] * 3
    report = audit(table(tmp_path, {"views": views, "likes": likes}))
    assert report.measures.fewer_views_than_likes == 1
    assert found(report, "views below likes")[0].severity == "fault"
    assert "2 of 53 rows have no views" in found(report, "hidden target")[0].says
    assert "2 values of views" in found(report, "hard to read")[0].says


def test_rounded_counts_are_told_from_exact_ones(tmp_path: Path) -> None:
    exact = np.array(counts(4000)) * 10 + 7
    rounded = np.where(exact >= 1_000_000, exact // 100_000 * 100_000, exact // 100 * 100)
    assert rounding_of("views", exact.astype(float)).share < 0.03
    assert rounding_of("views", rounded.astype(float)).share == 1
    report = audit(table(tmp_path, {"views": rounded.tolist()}))
    assert "100% of the" in found(report, "rounded counts")[0].says


def test_zeros_and_ties_collapse_quartiles(tmp_path: Path) -> None:
    shares = [0] * 60 + counts(40)
    report = audit(table(tmp_path, {"shares": shares}), target="shares")
    assert report.measures.quartiles.sizes == (60, 15, 25)
    assert "60% of shares are 0" in found(report, "many zeros")[0].says
    assert "3 classes of 60, 15, 25 rows" in found(report, "collapsed quartiles")[0].says
    assert quartiles_of(np.arange(100.0)).sizes == (25, 25, 25, 25)


def test_the_tail_of_a_known_distribution() -> None:
    pareto = (1 - np.random.default_rng(0).random(200_000)) ** (-1 / 1.5)
    tail = tail_of("views", pareto)
    assert tail.hill == pytest.approx(1.5, abs=0.05)
    assert tail.top_share > 0.9
    normal = tail_of("score", np.random.default_rng(0).normal(0, 1, 200_000))
    assert (normal.skew, normal.top_share) == (pytest.approx(0, abs=0.02), pytest.approx(0.0816, abs=0.005))
    assert normal.skew_log1p is None, "log1p has no meaning for negative values"


@pytest.mark.parametrize(("hours", "check"), [(24, "within 7 days"), (-1, "counted before they were posted")])
def test_young_labels_and_impossible_times_are_found(hours: int, check: str, tmp_path: Path) -> None:
    created = [1_700_000_000 + index for index in range(40)]
    ages = {"views": counts(40), "created_at": created, "crawled_at": [time + hours * 3600 for time in created]}
    assert any(check in finding.says for finding in found(audit(table(tmp_path, ages)), "label age"))


def test_a_target_that_grows_with_age_is_found(tmp_path: Path) -> None:
    days = list(range(10, 110))
    ages = {
        "views": [day * 1000 for day in days],
        "created_at": [1_700_000_000] * 100,
        "crawled_at": [1_700_000_000 + day * DAY for day in days],
    }
    assert "rank correlation of 1.00" in found(audit(table(tmp_path, ages)), "label age")[0].says


def test_repeated_ids_repeated_files_and_near_equal_rows_are_found(tmp_path: Path) -> None:
    views = counts(40)
    base = {
        "id": [f"c{index}" for index in range(40)],
        "sha256": [f"{index:064x}" for index in range(40)],
        "author": ["a", "b"] * 20,
        "views": views,
        "likes": counts(40, 1),
        "comments": counts(40, 2),
    }
    again = {name: [*values, values[3]] for name, values in base.items()}
    assert (audit(table(tmp_path, base)).measures.duplicates.ids, audit(table(tmp_path, base)).measures.duplicates.near) == (0, 0)
    report = audit(table(tmp_path, again))
    assert (report.measures.duplicates.ids, report.measures.duplicates.media) == (1, 1)
    assert {finding.severity for finding in found(report, "duplicates")} == {"fault"}
    renamed = {**again, "id": [*base["id"], "other"], "sha256": [*base["sha256"], "f" * 64], "views": [*views, round(views[3] * 1.004)]}
    assert audit(table(tmp_path, renamed)).measures.duplicates.near == 1


def test_authors_and_music_on_both_sides_of_a_given_split_are_found(tmp_path: Path) -> None:
    parts = ["train"] * 30 + ["val"] * 5 + ["test"] * 5
    apart = [f"{part}{index % 5}" for index, part in enumerate(parts)]
    columns = {"views": counts(40), "split": parts, "author": apart, "music": ["one song"] * 40}
    report = audit(table(tmp_path, columns))
    assert [(finding.severity, "100% of the held-out rows share their music" in finding.says) for finding in found(report, "overlap")] == [
        ("note", True)
    ]
    report = audit(table(tmp_path, {**columns, "author": [*apart[:30], *apart[:5], *apart[35:]]}))
    assert found(report, "overlap")[0].severity == "fault"
    assert "50% of the held-out rows share their author" in found(report, "overlap")[0].says
    report = audit(table(tmp_path, {**columns, "split": [None, *parts[1:]]}))
    assert "39 of 40 rows" in found(report, "split")[0].says


def test_a_table_without_authors_is_warned_about(tmp_path: Path) -> None:
    assert "Nobody knows who posted what" in found(audit(table(tmp_path, {"views": counts(40)})), "split")[0].says


def leaky(size: int, effect: float) -> dict[str, list[Any]]:
    """Each author has habits that the features show, and a following that decides; clips themselves decide nothing."""
    rng = np.random.default_rng(0)
    authors = rng.integers(0, 20, size)
    habits, following = rng.normal(0, 1, (20, 3)), rng.normal(0, effect, 20)
    features = habits[authors] + rng.normal(0, 0.1, (size, 3))
    views = np.exp(8 + following[authors] + rng.normal(0, 1, size)).astype(int)
    return {
        "author": [f"a{one}" for one in authors],
        "views": views.tolist(),
        **{f"x{axis}": features[:, axis].tolist() for axis in range(3)},
    }


def test_author_leakage_shows_as_a_gap_between_random_and_grouped_folds(tmp_path: Path) -> None:
    report = audit(table(tmp_path, leaky(600, effect=2)))
    leakage = report.measures.leakage
    assert leakage is not None
    (gap,) = leakage.gaps
    assert (gap.key, gap.groups) == ("author", 20)
    assert (leakage.random.spearman or 0) > 0.7 > 0.3 > (gap.grouped.spearman or 0)
    assert gap.grouped.nmse > 1 > 0.4 > gap.group_mean.nmse
    assert {finding.severity for finding in found(report, "leakage")} == {"fault", "note"}


def test_where_authors_do_not_matter_no_leakage_is_claimed(tmp_path: Path) -> None:
    report = audit(table(tmp_path, leaky(600, effect=0)))
    assert report.measures.leakage is not None
    assert found(report, "leakage") == []


def test_counts_and_what_follows_from_them_are_no_features(tmp_path: Path) -> None:
    columns = {"views": counts(40), "likes": counts(40, 1), "dislikes": [1, 2] * 20, "n_shares": [1, 2] * 20, "user_id": [1, 2] * 20}
    own = {"n_hashtags": [1, 2] * 20, "funny": [True, False] * 20, "caption": ["a", "b"] * 20, "category_id": [1, 2] * 20}
    assert list(table(tmp_path, {**columns, **own}).features("views")) == ["n_hashtags", "funny", "category_id"]


def test_the_report_is_plain_json_and_lists_faults_first(tmp_path: Path) -> None:
    report = audit(table(tmp_path, {"views": [*counts(40), None], "likes": [10**9] * 41}))
    plain = json.loads(json.dumps(report.to_json()))
    severities = [finding["severity"] for finding in plain["findings"]]
    assert severities == sorted(severities, key=["fault", "warning", "note"].index)
    assert plain["rows"] == 41
    assert plain["tails"][0]["name"] == "views"


def test_what_cannot_be_audited_is_said(tmp_path: Path) -> None:
    some = table(tmp_path, {"views": [1, 2, 3, 4], "note": ["a"] * 4})
    with pytest.raises(DataError, match="has no column of numbers 'ecr'; it has views"):
        audit(some, target="ecr")
    with pytest.raises(DataError, match="'views' has fewer than 4 different values"):
        audit(table(tmp_path, {"views": [1, 1, 2, None]}))
    path = tmp_path / "labels.jsonl"
    with pytest.raises(DataError, match="has no column 'outlet'; it has views"):
        audit_file(path, columns={"author": "outlet"})
    with pytest.raises(DataError, match="role 'brand' is unknown; it is one of id, author"):
        audit_file(path, columns={"brand": "views"})


@pytest.fixture(scope="module")
def news(shared_data: Path) -> AuditReport:
    return audit_file(shared_data / "labels" / "tiktok_german_news_2023.csv", target="likes", columns=NEWS_COLUMNS)


def test_real_news_clips_have_1910_rows_with_fewer_views_than_likes(news: AuditReport) -> None:
    assert (news.measures.rows, news.measures.fewer_views_than_likes) == (4287, 1910)
    assert "1,910 of 4,287" in found(news, "views below likes")[0].says


def test_raw_likes_give_the_top_one_percent_nearly_all_of_the_squared_error(news: AuditReport) -> None:
    likes = news.measures.tails[0]
    assert likes.name == "likes"
    assert (likes.top_share, likes.top_share_log1p) == (pytest.approx(0.881, abs=0.001), pytest.approx(0.067, abs=0.001))
    assert (likes.skew, likes.max_z, likes.mean_over_median) == (
        pytest.approx(25.1, abs=0.1),
        pytest.approx(40.7, abs=0.1),
        pytest.approx(6.8, abs=0.1),
    )


def test_half_of_real_likes_is_the_outlet_and_random_folds_hide_it(news: AuditReport) -> None:
    leakage = news.measures.leakage
    assert leakage is not None
    author = leakage.gaps[0]
    assert (author.key, author.groups) == ("author", 18)
    assert leakage.random.spearman == pytest.approx(0.53, abs=0.03)
    assert (author.grouped.spearman or 0) < 0.05
    assert author.group_mean.nmse == pytest.approx(0.49, abs=0.01)
    assert any("with author kept apart" in finding.says for finding in found(news, "leakage"))


def test_real_shares_collapse_a_quartile(shared_data: Path) -> None:
    labels = read_table(shared_data / "labels" / "tiktok_german_news_2023.csv")
    quartiles = quartiles_of(labels.counts["shares"])
    assert quartiles.edges[0] == 0
    assert quartiles.sizes[0] == (labels.counts["shares"] == 0).sum()


def test_a_clip_that_trends_for_days_leaks_through_random_rows(shared_data: Path) -> None:
    report = audit_file(shared_data / "labels" / "youtube_trending_us_2017.csv")
    assert report.measures.columns["author"] == "channel"
    assert report.measures.duplicates.ids == 7998 - 2335
    leakage = report.measures.leakage
    assert leakage is not None
    grouped = {gap.key: gap.grouped.spearman or 0 for gap in leakage.gaps}
    assert set(grouped) == {"author", "id"}
    assert (leakage.random.spearman or 0) > 0.5 > 0.25 > max(grouped.values())
