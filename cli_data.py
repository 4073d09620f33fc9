"""`shortcast data`: make sets of clips, bring them in, and look them over."""

from __future__ import annotations

import json
from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from .cli_options import ForceOption
from .terminal import console, say, write_json

data_app = typer.Typer(help="Make and look after sets of clips.", no_args_is_help=True, rich_markup_mode="rich")


class ImportFormat(str, Enum):
    """What `data import` reads."""

    auto = "auto"
    yt_dlp = "yt-dlp"
    research_api = "research-api"
    tiktok_web = "tiktok-web"
    tiktok_scraper = "tiktok-scraper"
    pyktok = "pyktok"
    youtube_api = "youtube-api"
    csv = "csv"
    jsonl = "jsonl"


@data_app.command(epilog="Example:\n\n  shortcast data synth -o clips --clips 300 --seed 7")
def synth(
    output: Annotated[Path, typer.Option("--output", "-o", help="The folder to fill.", show_default=False)],
    clips: Annotated[int, typer.Option(min=1, help="How many clips.")] = 300,
    seed: Annotated[int, typer.Option(help="Clip i depends on the seed and i alone.")] = 0,
    shortest: Annotated[float, typer.Option(metavar="SECONDS", help="Length of the shortest clip there may be.")] = 4.0,
    longest: Annotated[float, typer.Option(metavar="SECONDS", help="Length of the longest clip there may be.")] = 20.0,
    jobs: Annotated[int | None, typer.Option(min=1, help="Processes that render.", show_default="the CPU quota")] = None,
    force: Annotated[bool, typer.Option("--force", help="Use a folder that holds something else.")] = False,
) -> None:
    """Make real encoded clips whose success follows a documented rule, so that a known ceiling exists.

    An interrupted call goes on where it stopped when the same command is given again.
    """
    from .display import StageBars
    from .runtime.cpu import available_cpus
    from .training.synth import synthesise

    with StageBars() as bars:
        manifest = synthesise(
            output,
            clips=clips,
            seed=seed,
            lengths_s=(shortest, longest),
            jobs=jobs or available_cpus(),
            force=force,
            progress=lambda done, total: bars.advance("clips", done, total),
        )
    say(f"wrote {manifest}; next: shortcast train {manifest} -o model")


@data_app.command(
    "import",
    epilog="Examples:\n\n  shortcast data import clips -o clips/manifest.jsonl\n\n"
    "  shortcast data import posts.csv --media clips -o manifest.jsonl --require views",
)
def import_(
    source: Annotated[
        Path, typer.Argument(metavar="DIR|FILE", help="A folder of videos with counts, or a file of counts.", show_default=False)
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="The manifest to make: .jsonl or .parquet.", show_default=False)],
    format_: Annotated[
        ImportFormat, typer.Option("--format", help="What the counts are; auto tells it from structure.")
    ] = ImportFormat.auto,
    media: Annotated[Path | None, typer.Option(help="Folder of the videos.", show_default="the source's folder")] = None,
    keep_text: Annotated[bool, typer.Option("--keep-text", help="Keep names, handles, descriptions and addresses.")] = False,
    salt_file: Annotated[Path | None, typer.Option(help="Key for authors and music.", show_default="salt beside the manifest")] = None,
    require: Annotated[
        list[str] | None, typer.Option(help="Leave out rows without this count; may be repeated.", show_default=False)
    ] = None,
    report: Annotated[Path | None, typer.Option(help="Write the whole report as JSON.", show_default=False)] = None,
    force: ForceOption = False,
) -> None:
    """Make a manifest from videos and the counts that came with them; everything that doesn't fit is listed."""
    from .display import StageBars
    from .training.importing import ImportOptions, import_clips

    options = ImportOptions(format_.value, media, keep_text, salt_file, tuple(require or ()), force)
    with StageBars() as bars:
        result = import_clips(source, output, options=options, progress=lambda done, total: bars.advance("hashing", done, total))
    if report is not None:
        write_json(report, result.to_json())
    print(result.summary())
    say(f"wrote {output}; next: shortcast data audit {output}")


@data_app.command(
    epilog="Examples:\n\n  shortcast data audit manifest.jsonl\n\n"
    "  shortcast data audit labels.csv --target likes --column author=outlet --column created_at=created_hour"
)
def audit(
    labels: Annotated[
        Path, typer.Argument(metavar="MANIFEST|TABLE", help="A manifest, or a CSV, JSON or Parquet table.", show_default=False)
    ],
    target: Annotated[str, typer.Option(help="Which column is to be predicted.")] = "views",
    column: Annotated[
        list[str] | None,
        typer.Option(
            metavar="ROLE=NAME",
            help="Which column is id, author, music, split, created_at, crawled_at or a count; may be repeated.",
            show_default=False,
        ),
    ] = None,
    as_json: Annotated[Path | None, typer.Option("--json", help="Write everything measured and found as JSON.", show_default=False)] = None,
    features_dir: Annotated[
        Path | None, typer.Option(help="Cache of decoded clips: also compare the pictures of those in it.", show_default=False)
    ] = None,
    seed: Annotated[int, typer.Option(help="Decides the random folds.")] = 0,
) -> None:
    """Look labels over before training: impossible counts, tails, ties, ages, duplicates, and what a random split gives away."""
    from .display import audit_tables
    from .training.audit import audit_file

    report = audit_file(labels, target=target, columns=_roles(column), seed=seed, features_dir=features_dir)
    if as_json is not None:
        write_json(as_json, report.to_json())
    for table in audit_tables(report):
        console().print(table, "")


@data_app.command(epilog="Example:\n\n  shortcast data duplicates clips/manifest.jsonl --features-dir features --json duplicates.json")
def duplicates(
    manifest: Annotated[Path, typer.Argument(help="JSON lines: one clip a line, with its path.", show_default=False)],
    features_dir: Annotated[
        Path | None, typer.Option(help="Cache of decoded clips, for training too.", show_default="MANIFEST's name with .features")
    ] = None,
    as_json: Annotated[Path | None, typer.Option("--json", help="Write every cluster as JSON.", show_default=False)] = None,
    whisper: Annotated[
        Path | None, typer.Option(help="Directory with the Whisper weights in CTranslate2 form.", show_default="looked for")
    ] = None,
    jobs: Annotated[int | None, typer.Option(min=1, help="Processes that read clips.", show_default="the CPU quota")] = None,
) -> None:
    """List clips that show the same pictures: re-encoded, scaled, cut or slightly edited copies."""
    from .display import StageBars, duplicates_table
    from .training.duplicate_report import report_duplicates

    cache = features_dir or manifest.with_suffix(".features")
    with StageBars() as bars:
        report = report_duplicates(manifest, features_dir=cache, whisper=whisper, jobs=jobs, progress=bars.advance)
    if as_json is not None:
        write_json(as_json, report.to_json())
    for failed in report.failed:
        say(f"left out {failed.id}: {failed.reason}")
    if report.clusters:
        console().print(duplicates_table(report))
    say(report.summary())
    say(f"next: shortcast train {manifest} --split author+duplicate --features-dir {cache} -o model")


@data_app.command(epilog="Example:\n\n  shortcast data outliers labels.csv --target likes --top 0.01 > study.json")
def outliers(
    labels: Annotated[
        Path, typer.Argument(metavar="MANIFEST|TABLE", help="A manifest, or a CSV, JSON or Parquet table.", show_default=False)
    ],
    target: Annotated[str, typer.Option(help="Which column to study.")] = "views",
    column: Annotated[
        list[str] | None, typer.Option(metavar="ROLE=NAME", help="As in `data audit`; may be repeated.", show_default=False)
    ] = None,
    top: Annotated[float, typer.Option(help="Share of the rows that count as farthest out.")] = 0.01,
) -> None:
    """Print, as JSON, what the rows farthest out do to every loss of simple predictors, raw and transformed."""
    from .training.outliers import study_file

    study = study_file(labels, target=target, columns=_roles(column), top=top)
    print(json.dumps(study.to_json()))


def _roles(columns: list[str] | None) -> dict[str, str]:
    """`["author=outlet"]` -> `{"author": "outlet"}`."""
    if any("=" not in one for one in columns or ()):
        raise typer.BadParameter("expected ROLE=NAME, such as author=outlet", param_hint="--column")
    return dict(one.split("=", 1) for one in columns or ())
