"""Looks labels over before anybody trains on them: what is wrong with the counts, and what a random split would give away.

A `fault` makes figures wrong, a `warning` makes them worse or hard to read, a `note` is good to know; each says what to do.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from ..runtime.target import QUARTILES
from .clips import read_manifest
from .duplicate_report import stored_duplicates
from .label_table import LabelTable, read_table
from .leakage import Gap, Overlap
from .measures import YOUNG_DAYS, Measures, measure
from .tails import Tail

Severity = Literal["fault", "warning", "note"]
SEVERITIES: tuple[Severity, ...] = ("fault", "warning", "note")

FEWEST_ROWS = 100
"""Below this neither a tail nor a rank correlation says much."""
ROUNDED_SHARE = 0.2
ZERO_SHARE = 0.1
SMALLEST_CLASS = 0.15
TOP_SHARE = 0.5
TOP_SHARE_LOG1P = 0.25
YOUNG_SHARE = 0.1
AGE_SPEARMAN = 0.3
MUSIC_SHARE = 0.2
GAP_SPEARMAN = 0.1
GROUP_MEAN_NMSE = 0.8
"""From where on something is worth a finding."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing about the labels that somebody should know."""

    severity: Severity
    check: str
    says: str
    do: str
    """What to do about it."""


@dataclass(frozen=True, slots=True)
class AuditReport:
    """What was measured, and what follows from it."""

    measures: Measures
    findings: tuple[Finding, ...]
    """Faults first."""

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {"findings": [asdict(finding) for finding in self.findings], **asdict(self.measures)}


def audit_file(
    path: Path, *, target: str = "views", columns: Mapping[str, str] | None = None, seed: int = 0, features_dir: Path | None = None
) -> AuditReport:
    """Audits a manifest or a table of labels.

    Args:
        path: a manifest, or a CSV, JSON, JSON lines or Parquet table.
        target: the column to be predicted.
        columns: role -> column where names say nothing, such as `{"author": "outlet", "created_at": "created_hour"}`.
        seed: decides the random folds, and the split if the table has none.
        features_dir: cache of decoded clips; the pictures of the manifest's clips that are in it are compared.

    Raises:
        DataError: the file cannot be read, or the target cannot be used.
        WeightsError: the cache is to be looked into and the Whisper weights, by whose hash it is kept, are not found.
    """
    table = read_table(path, columns)
    return audit(table if features_dir is None else _with_pictures(table, path, features_dir), target=target, seed=seed)


def _with_pictures(table: LabelTable, manifest: Path, features_dir: Path) -> LabelTable:
    """The table with a key `pictures`: the cluster of near-duplicates that a row's clip is in."""
    rows = read_manifest(manifest)
    names = stored_duplicates(rows, features_dir)
    return replace(table, keys={**table.keys, "pictures": tuple(names.get(row.id) for row in rows)})


def audit(table: LabelTable, *, target: str = "views", seed: int = 0) -> AuditReport:
    """Audits a table; see `audit_file`.

    Raises:
        DataError: the table has no such target, or too few different values of it are known.
    """
    measures = measure(table, target, seed=seed)
    found = [finding for check in _CHECKS for finding in check(measures)]
    return AuditReport(measures, tuple(sorted(found, key=lambda finding: SEVERITIES.index(finding.severity))))


def _views_below_likes(found: Measures) -> Iterator[Finding]:
    if count := found.fewer_views_than_likes:
        yield Finding(
            "fault" if count > 0.01 * found.rows else "warning",
            "views below likes",
            f"{count:,} of {found.rows:,} rows have fewer views than likes, which cannot be: the views are wrong.",
            "Predict likes instead, or read the views again; TikTok's Research API gave far too few before July 2024.",
        )


def _unknown_values(found: Measures) -> Iterator[Finding]:
    target = found.tails[0]
    if target.hidden:
        yield Finding(
            "warning",
            "hidden target",
            f"{target.hidden:,} of {found.rows:,} rows have no {target.name}.",
            f"Training needs it: import with --require {target.name}, or choose another target.",
        )
    for name, notes in found.written.items():
        if odd := notes.get("unreadable", 0) + notes.get("ambiguous", 0):
            yield Finding(
                "warning",
                "hard to read",
                f"{odd:,} values of {name} could not be read or have two meanings (1.234 is read as 1234).",
                "Write counts as plain whole numbers.",
            )


def _rounded(found: Measures) -> Iterator[Finding]:
    for rounding in found.roundings:
        if rounding.large >= 10 and rounding.share > ROUNDED_SHARE:
            yield Finding(
                "warning",
                "rounded counts",
                f"{rounding.share:.0%} of the {rounding.large:,} large values of {rounding.name} are round as web pages show them (12.3K).",
                "Ranks of near clips are lost; take counts from an API or from yt-dlp's info files if you can.",
            )


def _zeros(found: Measures) -> Iterator[Finding]:
    target = found.tails[0]
    if target.zeros > ZERO_SHARE:
        yield Finding(
            "warning",
            "many zeros",
            f"{target.zeros:.0%} of {target.name} are 0.",
            "One number for 'none or how many' is two questions; predict a count that is seldom 0, or look at the zeros apart.",
        )


def _quartiles(found: Measures) -> Iterator[Finding]:
    quartiles = found.quartiles
    sizes, edges = (", ".join(f"{number:,g}" for number in numbers) for numbers in (quartiles.sizes, quartiles.edges))
    if len(quartiles.sizes) < QUARTILES or quartiles.smallest < SMALLEST_CLASS:
        yield Finding(
            "warning",
            "collapsed quartiles",
            f"Ties make {len(quartiles.sizes)} classes of {sizes} rows (edges {edges}).",
            "Do not read class accuracy against 25 %; choose a target with fewer ties.",
        )


def _tails(found: Measures) -> Iterator[Finding]:
    target = found.tails[0]
    logs = target.top_share_log1p
    if target.known < FEWEST_ROWS:
        return
    if target.top_share > TOP_SHARE:
        after = f", {logs:.0%} after log1p" if logs is not None else ""
        yield Finding(
            "warning",
            "heavy tail",
            f"Standardised as they are, 1 % of the rows carry {target.top_share:.0%} of the squared error of {target.name}{after}."
            f"{_moments(target)}",
            "Train with --transform log1p (the default), and never compare squared errors of raw counts.",
        )
    if logs is not None and logs > TOP_SHARE_LOG1P:
        yield Finding(
            "note",
            "tail after log1p",
            f"Even after log1p, 1 % of the rows carry {logs:.0%} of the squared error.",
            "Read MAE and Spearman beside MSE; look at those rows.",
        )


def _moments(target: Tail) -> str:
    if target.hill is None or target.hill >= 2:
        return ""
    lost = "neither mean nor variance is" if target.hill < 1 else "the variance isn't"
    return f" With a tail index of {target.hill:.1f}, {lost} finite: both change with every sample."


def _ages(found: Measures) -> Iterator[Finding]:
    ages = found.ages
    if ages is None:
        yield Finding(
            "note", "label age", "How old clips were when they were counted isn't known.", "Keep the crawl time; yt-dlp writes it as epoch."
        )
        return
    if ages.negative:
        yield Finding(
            "fault", "label age", f"{ages.negative:,} rows were counted before they were posted.", "Check the two times and their zones."
        )
    if ages.young > YOUNG_SHARE:
        yield Finding(
            "warning",
            "label age",
            f"{ages.young:.0%} of the clips were counted within {YOUNG_DAYS} days (median {ages.median_days:.0f}): they still grew.",
            "Count them again later, or leave young clips out.",
        )
    if ages.known >= FEWEST_ROWS and ages.spearman is not None and abs(ages.spearman) > AGE_SPEARMAN:
        yield Finding(
            "warning",
            "label age",
            f"Age and {found.target} have a rank correlation of {ages.spearman:.2f}: part of the target is time.",
            "Count clips at one age, or predict a rate.",
        )


def _duplicates(found: Measures) -> Iterator[Finding]:
    duplicates = found.duplicates
    if duplicates.ids:
        yield Finding(
            "fault",
            "duplicates",
            f"{duplicates.ids:,} rows repeat an id.",
            "Keep one row for each clip, or a random split tests on what it trained on.",
        )
    if duplicates.media:
        yield Finding(
            "fault",
            "duplicates",
            f"{duplicates.media:,} rows repeat a file, byte for byte.",
            "Import again: it keeps the first and lists the others.",
        )
    if duplicates.pictures:
        yield Finding(
            "warning",
            "duplicates",
            f"{duplicates.pictures:,} rows show the pictures of an earlier row: copies that were encoded, cut or edited again.",
            "List them with `shortcast data duplicates`; train with --split author+duplicate.",
        )
    if duplicates.near:
        yield Finding(
            "warning",
            "duplicates",
            f"{duplicates.near:,} pairs of rows have the same author and length and near-equal counts: perhaps one clip twice.",
            "Look at them; keep one of each pair.",
        )


def _split(found: Measures) -> Iterator[Finding]:
    if found.split_fault:
        yield Finding(
            "fault",
            "split",
            f"Training would refuse these rows: {found.split_fault}.",
            "Give every row one of train, val and test; or give none, and clips of more authors.",
        )
    if "author" not in found.columns:
        yield Finding(
            "warning",
            "split",
            "Nobody knows who posted what, so training splits at random, and its figures may be far too good.",
            "Say which column names the author: --column author=NAME, and `author` in a manifest.",
        )
    for overlap in found.overlaps:
        if overlap.groups:
            yield from _overlap(overlap)


def _overlap(overlap: Overlap) -> Iterator[Finding]:
    given = overlap.split == "given by the manifest"
    says = f"{overlap.held_out:.0%} of the held-out rows share their {overlap.key} with training rows; the split is {overlap.split}."
    if overlap.key == "music" and overlap.held_out > MUSIC_SHARE:
        yield Finding("note", "overlap", says, "A model may know the song; compare rows whose music is new.")
    elif overlap.key == "pictures":
        yield Finding("fault" if given else "warning", "overlap", says, "Train with --split author+duplicate, which keeps copies together.")
    elif overlap.key != "music":
        do = (
            "Leave the column `split` out, so that training keeps authors apart."
            if given
            else "Make one row for each clip, and name authors."
        )
        yield Finding("fault" if given else "warning", "overlap", says, do)


def _leakage(found: Measures) -> Iterator[Finding]:
    if found.leakage is None:
        yield Finding(
            "note",
            "leakage",
            "Random and grouped folds were not compared: too few rows, groups or columns of numbers.",
            "Give more rows, or name groups.",
        )
        return
    random = found.leakage.random
    for gap in found.leakage.gaps:
        lost = (random.spearman or 0.0) - (gap.grouped.spearman or 0.0)
        # A model that is no better than the mean has nothing that could leak.
        if lost > GAP_SPEARMAN and random.nmse < 1:
            yield Finding(
                "fault",
                "leakage",
                f"With random folds a simple model reaches Spearman {random.spearman or 0:.3f} (nMSE {random.nmse:.2f}), "
                f"with {gap.key} kept apart {gap.grouped.spearman or 0:.3f} ({gap.grouped.nmse:.2f}).",
                f"Split by {gap.key} and believe only that; the random figure is mostly recognising the {gap.key}.",
            )
        yield from _identity(gap)


def _identity(gap: Gap) -> Iterator[Finding]:
    if gap.key == "author" and gap.group_mean.nmse < GROUP_MEAN_NMSE:
        yield Finding(
            "note",
            "leakage",
            f"Knowing the author alone explains {1 - gap.group_mean.nmse:.0%} of the target's variance.",
            "Compare models with that baseline; a score of the clip itself cannot know it.",
        )


_CHECKS = (_views_below_likes, _unknown_values, _rounded, _zeros, _quartiles, _tails, _ages, _duplicates, _split, _leakage)
