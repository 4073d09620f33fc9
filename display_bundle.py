"""How a bundle is shown: its files, its graphs and engines with what was measured of them, its proofs and its model's card."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.table import Table

from .display import flat, human, kind_of, pairs_table
from .display_card import card_tables
from .display_proof import proof_tables, summary_table
from .runtime.bundle import CLIPS, Bundle, BundleFile, Manifest
from .runtime.engine_record import EngineRecord
from .runtime.engines import TensorSpec
from .runtime.intervals import ConformalIntervals
from .runtime.settling import Settling


def bundle_tables(bundle: Bundle) -> list[Table]:
    """What is in a bundle, what it predicts, what was measured of it and what it was trained on."""
    manifest = bundle.manifest
    proofs = bundle.parity_report().values()
    reports = {
        (name, precision): file.report for name, files in manifest.graphs.items() for precision, file in files.items() if file.report
    }
    engines = list(bundle.engines())
    shown = [_about(manifest), _files(manifest.files), _graphs(manifest)]
    shown += [_reduced(reports)] if reports else []
    shown += [_engines(engines)] if engines else []
    shown += [settling_table(manifest.settling)] if manifest.settling else []
    shown += [summary_table(proofs), *(table for proof in proofs for table in proof_tables(proof))]
    return [*shown, *card_tables(manifest.card)]


def _about(manifest: Manifest) -> Table:
    target, whisper = manifest.target, manifest.whisper
    kept = "in the bundle" if whisper.embedded else "looked for where it is used"
    return pairs_table(
        f"bundle {manifest.name}",
        {
            "id": manifest.id[:16] + "…",
            "predicts": f"{target.name} ({target.transform}, mean {target.mean:.3f}, std {target.std:.3f})",
            f"{kind_of(target.classes)} edges": ", ".join(human(edge) for edge in target.class_edges),
            "interval": f"{manifest.interval_coverage:.0%}, quantiles {manifest.quantile_levels[0]} and {manifest.quantile_levels[-1]}, "
            + _margins(manifest.intervals),
            "sound": f"Whisper {whisper.model} in {whisper.compute_type}, {kept}, sha256 {whisper.sha256[:16]}…",
            **{f"provenance: {name}": value for name, value in flat(manifest.provenance)},
        },
    )


def _files(listed: Sequence[BundleFile]) -> Table:
    table = Table(title="files", show_edge=False)
    for column in ("path", "role", "bytes", "sha256"):
        table.add_column(column, justify="right" if column == "bytes" else "left")
    clips = [file for file in listed if file.path.startswith(CLIPS)]
    for file in listed:
        if file not in clips:
            table.add_row(file.path, file.role, f"{file.bytes:,}", file.sha256[:16] + "…")
    table.add_row(f"{CLIPS} ({len(clips)} clips)", "golden", f"{sum(file.bytes for file in clips):,}", "")
    return table


def _graphs(manifest: Manifest) -> Table:
    """A row for each file; inputs and outputs are the same in every precision and are shown once."""
    table = Table(title="graphs", show_edge=False)
    for column in ("graph", "declared", "measured bytes of weights", "inputs", "outputs"):
        table.add_column(column)
    for name, files in manifest.graphs.items():
        for graph in sorted(files.values(), key=lambda file: file.declared != "fp32"):
            sides = (_specs(graph.inputs), _specs(graph.outputs)) if graph.declared == "fp32" else ("as above", "as above")
            table.add_row(name, graph.declared, _join(graph.weight_bytes), *sides)
    return table


def _reduced(reports: Mapping[tuple[str, str], Mapping[str, Any]]) -> Table:
    """What making each reduced graph measured."""
    table = Table(title="reduced precision", show_edge=False, show_lines=True)
    for column in ("graph", "", "nodes", "still float32", "embedding after a long stream", "time, of float32's"):
        table.add_column(column, overflow="fold")
    for (name, precision), report in reports.items():
        conversion = report["conversion"]
        made = conversion.get("half") or conversion.get("quantised")
        kept = Counter(node["reason"].replace("a head, the last product before ", "head: ") for node in conversion["kept"])
        reasons = "\n".join(f"{count}: {reason}" if count > 1 else reason for reason, count in kept.items())
        table.add_row(name, precision, f"{len(made)} of {len(made) + kept.total()}", reasons, _drift(report), _speed(report))
    return table


def _drift(report: Mapping[str, Any]) -> str:
    found = next((row for row in report.get("drift", ()) if row["output"] == "embedding"), None)
    if found is None:
        return "-"
    return f"off by {found['free_last']:.1e} after {found['steps']} chunks, {found['free_max']:.1e} at most, of {found['scale']:.2f}"


def _speed(report: Mapping[str, Any]) -> str:
    found = report.get("speed")
    if found is None:
        return "-"
    low, high = found["interval"]
    return f"{found['ratio']:.2f} [{low:.2f}, {high:.2f}], {found['threads']} threads, where it was exported"


def _engines(engines: Iterable[tuple[str, EngineRecord]]) -> Table:
    table = Table(title="engines", show_edge=False, show_lines=True)
    for column in ("engine", "built for", "with", "shapes", "precision found"):
        table.add_column(column, overflow="fold")
    for folder, record in engines:
        key = record.key
        device = " ".join((key.gpu, *key.compute_capabilities)).strip()
        built = f"{key.flavour} {key.version}, {key.platform}"
        table.add_row(folder, device, built, "\n".join(map(str, key.profiles)), str(record.attestation))
    return table


def settling_table(settling: Settling) -> Table:
    """What stopping early was found to be worth, a row for each threshold."""
    certainty = f"{settling.certainty:.0%}"
    table = Table(title=f"settled scores, measured on {settling.clips} clips: {_made_from(settling.provenance)}", show_edge=False)
    for column in (
        "settled",
        "threshold",
        "clips that stop",
        "end as they stood",
        f"at least ({certainty} sure)",
        "9 of 10 move",
        "not read",
    ):
        table.add_column(column, justify="left" if column == "settled" else "right")
    for rule in settling.rules:
        for row in rule.rows:
            moved = "-" if row.moved_z is None else f"{row.moved_z:.2f} z"
            promised = f"{100 * settling.at_least(rule, row):.1f} %"
            cells = (f"{row.threshold:.3g}", f"{row.stopped}", f"{row.kept}", promised, moved, f"{row.unread:.0%}")
            table.add_row(f"{rule.kind}, {rule.patience} chunks", *cells)
    return table


def _made_from(provenance: Mapping[str, Any]) -> str:
    lengths = f"{provenance['shortest_s']:g} to {provenance['longest_s']:g} s" if "longest_s" in provenance else "lengths unknown"
    return f"{provenance.get('source', 'not said what')}, {lengths}"


def _margins(intervals: ConformalIntervals) -> str:
    """In standardised units, at both ends."""
    if not intervals.margins:
        return "as predicted: too few clips to calibrate on"
    named = (f"{row.margin_z:+.2f} {f'from {row.chunks} chunks' if row.chunks else 'for whole clips'}" for row in intervals.margins)
    return f"each moved outwards by {', '.join(named)} (standardised units)"


def _join(values: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in values.items())


def _specs(specs: Iterable[TensorSpec]) -> str:
    return "\n".join(f"{spec.name} {spec.dtype} ({', '.join(map(str, spec.shape))})" for spec in specs)
