"""How a proof is shown: outputs, decisions and stages of one precision beside what is allowed."""

from __future__ import annotations

from collections.abc import Iterable

from rich.table import Table

from .runtime.decision import DecisionParity
from .runtime.parity import ParityRow
from .runtime.proof import PrecisionProof, StageError


def proof_tables(proof: PrecisionProof) -> list[Table]:
    """Everything a proof measured."""
    tables = [parity_table(proof.rows, title=f"{proof.precision} on {proof.backend} ({proof.device}) against PyTorch float32")]
    if proof.decision:
        tables.append(_decision_table(proof.decision, proof.stages))
    return tables


def summary_table(proofs: Iterable[PrecisionProof]) -> Table:
    """Every precision of a bundle in one row each."""
    table = Table(title="what was proved at export, against PyTorch float32")
    columns = ("precision", "checks", "worst score error", "rank correlation", "largest rank change", "classes changed", "worst stage", "")
    for column in columns:
        table.add_column(column, justify="left" if column in ("precision", "worst stage", "") else "right")
    for proof in proofs:
        passed = all(row.passed for row in proof.rows)
        found = _decision_cells(proof.decision) if proof.decision else ["-"] * 4
        parts = [stage for stage in proof.stages if stage.stage != "all"]
        stage = max(parts, key=lambda stage: stage.worst).stage if parts else "-"
        table.add_row(
            proof.precision, str(len(proof.rows)), *found, stage, "ok" if passed else "FAILED", style=None if passed else "bold red"
        )
    return table


def parity_table(rows: Iterable[ParityRow], *, title: str = "parity with PyTorch float32") -> Table:
    """The largest error of each output over all checks of a kind, beside its tolerance."""
    table = Table(title=title)
    for column in ("check", "output", "cases", "max abs error", "allowed", ""):
        table.add_column(column, justify="right" if column in ("cases", "max abs error", "allowed") else "left")
    groups: dict[tuple[str, str], list[ParityRow]] = {}
    for row in rows:
        groups.setdefault((row.check.split(",")[0], row.output), []).append(row)
    for (check, output), group in groups.items():
        errors = [row.max_abs_error for row in group]
        worst = "not comparable" if None in errors else f"{max(error for error in errors if error is not None):.2e}"
        tolerance = group[0].tolerance
        allowed = f"{tolerance.atol:g}" + (f" + {tolerance.rtol:g} rel" if tolerance.rtol else "")
        passed = all(row.passed for row in group)
        table.add_row(check, output, str(len(group)), worst, allowed, "ok" if passed else "FAILED", style=None if passed else "bold red")
    return table


def _decision_table(decision: DecisionParity, stages: Iterable[StageError]) -> Table:
    table = Table(title=f"what is decided about {decision.clips} proof clips, and which stage moves their scores")
    for column in ("worst score error", "rank correlation", "largest rank change", "classes changed"):
        table.add_column(column, justify="right")
    cells = _decision_cells(decision)
    for stage in stages:
        table.add_column(f"{stage.stage} alone" if stage.stage != "all" else "all stages", justify="right")
        cells.append(f"{stage.worst:.1e}")
    table.add_row(*cells)
    return table


def _decision_cells(decision: DecisionParity) -> list[str]:
    return [
        f"{decision.worst_score_error:.1e}",
        "-" if decision.spearman is None else f"{decision.spearman:.5f}",
        str(decision.largest_rank_change),
        f"{decision.class_changes} of {decision.clips}",
    ]
