"""An evaluation report on disk: `report.json` with every number, and `index.html`, one page that needs no network and no script."""

from __future__ import annotations

import json
import tempfile
from html import escape
from pathlib import Path

from .. import __version__
from ..errors import DataError
from .evaluation_report import EvaluationReport
from .report_comparison import ablation, compared, figures, subsets
from .report_html import data_table, definitions, details
from .report_outliers import outliers
from .report_predictions import calibration, classes, predictions, seconds
from .report_style import STYLE
from .report_training import pictures, training
from .studies import MODEL, TRAIN_MEAN

JSON_FILE = "report.json"
PAGE_FILE = "index.html"


def write_report(report: EvaluationReport, folder: Path, *, force: bool = False) -> Path:
    """Writes a report beside its target and renames it whole.

    Args:
        report: what `evaluate_checkpoint` found.
        folder: the directory to make.
        force: replace a report that is there; anything else is never replaced.

    Returns:
        The page.

    Raises:
        DataError: the folder exists and is not to be replaced, or cannot be written.
    """
    if folder.exists() and not (force and (folder / JSON_FILE).is_file()):
        raise DataError(f"{folder} exists; {'it holds no report, so choose another name' if force else 'give --force to replace it'}")
    try:
        folder.absolute().parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{folder.name}.", suffix=".part", dir=folder.absolute().parent) as aside:
            whole = Path(aside, "report")
            whole.mkdir()
            (whole / JSON_FILE).write_text(json.dumps(report.to_json(), indent=2) + "\n", encoding="utf-8")
            (whole / PAGE_FILE).write_text(page(report), encoding="utf-8")
            if folder.exists():
                folder.rename(Path(aside, "old"))
            whole.rename(folder)
    except OSError as error:
        raise DataError(f"report {folder} cannot be written: {error}") from error
    return folder / PAGE_FILE


def page(report: EvaluationReport) -> str:
    """The whole report as one HTML page: style, charts and pictures are inside."""
    sections = (
        ("about", "What was measured", _about(report)),
        ("figures", "Figures of the whole clip", figures(report)),
        ("compared", "The model less everything else", compared(report)),
        ("ablation", "Pictures, sound, or both", ablation(report)),
        ("subsets", "Parts of the clips", subsets(report)),
        ("seconds", "Error against seconds seen", seconds(report)),
        ("predictions", "Predicted and true", predictions(report)),
        ("calibration", "Calibration of the quantiles", calibration(report)),
        ("classes", "Classes", classes(report)),
        ("outliers", "What outliers do to the error", outliers(report)),
        ("training", "Loss over epochs", training(report)),
        ("pictures", "What the autoencoder redraws", pictures(report)),
        ("method", "How it was measured", _method(report)),
    )
    contents = "".join(f'<a href="#{name}">{escape(title)}</a>' for name, title, _ in sections)
    body = "".join(f'<section id="{name}"><h2>{escape(title)}</h2>{content}</section>' for name, title, content in sections)
    title = f"{report.checkpoint}: {report.target} of {len(report.clips)} clips"
    return (
        f'<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{STYLE}</style></head><body><header>'
        f"<h1>{escape(title)}</h1><nav>{contents}</nav></header><main>{body}</main></body></html>\n"
    )


def _about(report: EvaluationReport) -> str:
    overlap = report.overlap
    if overlap.learned_from is None:
        shared = overlap.known_from
    else:
        shared = (
            f"{overlap.learned_from} of these clips were trained on, {overlap.chosen_by} chose the epoch (known from: {overlap.known_from})"
        )
    rows = {
        "Clips": f"{len(report.clips)} ({report.part}), by {report.authors} authors; {len(report.failed)} could not be read",
        "Split of these clips": report.split,
        "Target": f"{report.target}; errors are given in {report.target} and in {report.space} units",
        "Model": f"{report.checkpoint}, SHA-256 {report.checkpoint_sha256}",
        "Trained on": report.trained_on,
        "Split at training": report.trained_split,
        "Seen in training": shared,
        "Manifest": f"{report.manifest}, SHA-256 {report.manifest_sha256}",
        "Made by": f"shortcast {__version__}",
    }
    warned = f'<p class="warn">{escape(_sentence(overlap.warning))}</p>' if overlap.warning else ""
    failed = details(
        "Clips that could not be read", data_table(("clip", "why"), [(clip.id, clip.reason) for clip in report.failed], words=True)
    )
    return warned + definitions(rows) + (failed if report.failed else "")


def _sentence(words: str) -> str:
    return f"{words[:1].upper()}{words[1:]}."


def _method(report: EvaluationReport) -> str:
    told = (
        f"Every figure is of all {len(report.clips)} clips at once, never a mean over batches, and in the space it names.",
        f"Intervals are {report.level:.0%} percentile bootstrap intervals of {report.resamples} resamples with seed {report.seed}. Authors "
        f"are drawn whole ({report.authors} here; a clip whose author is not known counts as one), for clips of one author are alike. "
        "They say how much other clips would move a figure, not how much another training run would.",
        "nMSE is the MSE over the variance of the truth of these clips: 1 is what their own mean would get.",
        f"{MODEL.capitalize()} is the model as it is; pictures alone and sound alone mask the other modality of the same model; "
        f"{TRAIN_MEAN} is 0 in standardised units. Everything else was fitted on the same training split as the model, and scores these "
        "clips without their labels.",
        f"All numbers are in {JSON_FILE} beside this page.",
    )
    return f"<ul>{''.join(f'<li>{escape(line)}</li>' for line in told)}</ul>"
