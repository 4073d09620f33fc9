"""From a folder of short videos and the counts that came with them to a manifest: read, join, hash, report.

Nothing is dropped in silence: every post that doesn't become a row, every file without a post and every count that is hidden or was
hard to read is in the report.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from ..errors import DataError
from .clips import SPLITS, ClipRow, write_manifest
from .documents import parquet_module, write_parquet
from .formats import Post, Source, read_sources
from .import_report import Entry, ImportReport, SourceRead
from .joining import MediaIndex, normal
from .layouts import COUNTS
from .pseudonyms import load_salt, pseudonym
from .values import Reading

SALT_FILE = "salt"
"""Beside the manifest, and so shared by all manifests of a folder."""

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class ImportOptions:
    """How to import."""

    format: str = "auto"
    media: Path | None = None
    """Folder of the videos; None: the source folder, or the folder of the source file."""
    keep_text: bool = False
    """Keep names, handles, descriptions and addresses, in the column `text`."""
    salt_file: Path | None = None
    """None: `salt` beside the manifest."""
    require: tuple[str, ...] = ()
    """Counts without which a row is left out; otherwise a hidden count is null in the manifest."""
    force: bool = False
    """Replace a manifest."""


def import_clips(
    source: Path, output: Path, *, options: ImportOptions = ImportOptions(), progress: Progress = lambda done, total: None
) -> ImportReport:
    """Makes a manifest of videos with counts.

    Args:
        source: a file of counts, or a folder.
        output: the manifest to make, `.jsonl` or `.parquet`; its folder must exist.
        options: see `ImportOptions`.
        progress: called with files hashed and files in all.

    Raises:
        DataError: nothing there can be read, a file given by name is damaged, no row is left, or `output` exists and `force` isn't
            given; nothing is written then.
    """
    source, output = normal(source), normal(output)
    _check(output, options)
    sources = read_sources(source, options.format, skip=(output,))
    root = source if source.is_dir() else source.parent
    folders = tuple(dict.fromkeys(normal(folder) for folder in (options.media or root, root)))
    work = _Import(sources, MediaIndex(folders[:1]), folders, options)
    found = work.find(progress)
    report = ImportReport(str(output), len(found), work.sources_read(), tuple(work.left_out), tuple(work.noted))
    if not found:
        raise DataError(_nothing_found(report, folders[0]))
    _write(output, _rows(found, load_salt(options.salt_file or output.parent / SALT_FILE), keep_text=options.keep_text))
    return report


def _nothing_found(report: ImportReport, media: Path) -> str:
    first = next((f"; first {entry.where}: {entry.detail or entry.kind}" for entry in report.left_out), "")
    kinds = ", ".join(f"{count} x {kind}" for kind, count in report.counts.items())
    return f"no post became a row ({kinds}{first}); videos were looked for in {media}: give --media if they are elsewhere"


def _write(output: Path, rows: Sequence[ClipRow]) -> None:
    if output.suffix == ".parquet":
        write_parquet(
            output, [{"id": row.id, "path": str(row.path), "split": row.split, "author": row.author, **row.columns} for row in rows]
        )
    else:
        write_manifest(output, rows)


def _check(output: Path, options: ImportOptions) -> None:
    if output.suffix not in (".jsonl", ".parquet"):
        raise DataError(f"{output}: expected a manifest that ends in .jsonl or .parquet")
    if output.suffix == ".parquet":
        parquet_module()
    if output.exists() and not options.force:
        raise DataError(f"{output} exists; give --force to replace it")
    if not output.parent.is_dir():
        raise DataError(f"folder {output.parent} does not exist; make it first")
    if options.media is not None and not options.media.is_dir():
        raise DataError(f"media folder {options.media} does not exist")
    unknown = set(options.require) - set(COUNTS)
    if unknown:
        raise DataError(f"cannot require {', '.join(sorted(unknown))}; the counts are {', '.join(COUNTS)}")


@dataclass(frozen=True, slots=True)
class _Joined:
    """A post with its media."""

    post: Post
    id: str
    path: Path
    sha256: str = ""


class _Import:
    """What an import has in hand, and what it has to tell."""

    def __init__(self, sources: Sequence[Source], media: MediaIndex, folders: Sequence[Path], options: ImportOptions) -> None:
        self.sources = sources
        self.media = media
        self.folders = folders
        self.options = options
        self.claimed: set[Path | None] = set()
        self.posts = [post for one in sources for post in one.posts]
        self.left_out = [Entry("damaged", damage.where, damage.reason) for one in sources for damage in one.damages]
        self.noted = [Entry("column dropped", str(one.path), name) for one in sources for name in one.dropped if not options.keep_text]

    def find(self, progress: Progress) -> list[_Joined]:
        """What becomes a row, in the sources' order."""
        joined = self._without_repeated_ids([found for post in self.posts if (found := self._join(post))])
        self.left_out += [Entry("media without a post", str(file), "") for file in self.media.videos if file not in self.claimed]
        known = {(one.post.format, one.post.platform, name) for one in joined for name in COUNTS if one.post.counts[name].value is not None}
        return list(self._without_repeated_media([one for one in joined if self._is_complete(one, known)], progress))

    def sources_read(self) -> tuple[SourceRead, ...]:
        """What every source was taken for."""
        return tuple(SourceRead(str(one.path), one.format, len(one.posts)) for one in self.sources)

    def _join(self, post: Post) -> _Joined | None:
        base = (post.info_file.parent,) if post.info_file else ()
        match = self.media.find(post, (*base, *self.folders))
        self.claimed.add(match.path)
        if post.not_video:
            self._leave_out(post.not_video, post)
        elif match.path is None:
            self._leave_out("no media", post, f"id {post.id}: {match.reason}" if post.id else match.reason)
        elif match.path.stat().st_size == 0:
            self._leave_out("empty media", post, match.path.name)
        else:
            return _Joined(post, post.id or match.path.stem, match.path)
        return None

    def _leave_out(self, kind: str, post: Post, detail: str = "") -> None:
        self.left_out.append(Entry(kind, post.where, detail or f"id {post.id}"))

    def _without_repeated_ids(self, found: Sequence[_Joined]) -> list[_Joined]:
        """Of several posts of one id, the one crawled last: its counts are the ripest."""
        best: dict[str, _Joined] = {}
        for one in found:
            before = best.get(one.id)
            if before is None:
                best[one.id] = one
                continue
            best[one.id] = newer = max((before, one), key=lambda each: _stamp(each.post.crawled_at))
            self._leave_out("repeated id", (before if newer is one else one).post, f"id {one.id}: {newer.post.where} was crawled last")
        return list(best.values())

    def _is_complete(self, one: _Joined, known: set[tuple[str, str | None, str]]) -> bool:
        """Notes what is hidden or was hard to read; False where a count that is required is hidden."""
        counts = one.post.counts
        hidden = [name for name in COUNTS if counts[name].value is None and self._is_expected(one.post, name, known)]
        missing = [name for name in self.options.require if counts[name].value is None]
        if missing:
            self._leave_out("required count is hidden", one.post, f"id {one.id}: {', '.join(missing)}")
            return False
        if hidden:
            self.noted.append(Entry("hidden count", one.post.where, f"id {one.id}: {', '.join(hidden)}"))
        self.noted += _hard_to_read(one)
        return True

    def _is_expected(self, post: Post, name: str, known: set[tuple[str, str | None, str]]) -> bool:
        """Whether the source has such a count: yt-dlp leaves a hidden one out, so other posts of its kind tell."""
        return post.counts[name].note == "hidden" or (post.format, post.platform, name) in known

    def _without_repeated_media(self, found: Sequence[_Joined], progress: Progress) -> Iterator[_Joined]:
        """Of several posts with the same bytes, the first."""
        first: dict[str, Path] = {}
        for number, one in enumerate(found, start=1):
            try:
                sha256 = _sha256(one.path)
            except OSError as error:
                self._leave_out("unreadable media", one.post, f"{one.path.name}: {error.strerror}")
                continue
            finally:
                progress(number, len(found))
            if sha256 in first:
                self._leave_out("repeated media", one.post, f"{one.path.name} is byte for byte {first[sha256].name}")
            else:
                first[sha256] = one.path
                yield replace(one, sha256=sha256)


def _stamp(moment: Reading[datetime]) -> float:
    return moment.value.timestamp() if moment.value else 0.0


def _hard_to_read(one: _Joined) -> Iterator[Entry]:
    post = one.post
    others = {"created_at": post.created_at, "crawled_at": post.crawled_at, "duration_s": post.duration_s}
    for name, reading in {**post.counts, **others}.items():
        if reading.note in ("rounded", "ambiguous"):
            yield Entry(f"{reading.note} count", post.where, f"id {one.id}: {name} read as {reading.value:,}")
        elif reading.note == "unreadable":
            yield Entry("unreadable value", post.where, f"id {one.id}: {name}")
    if post.split is not None and post.split not in SPLITS:
        yield Entry("unreadable value", post.where, f"id {one.id}: split {post.split!r}")


def _rows(found: Sequence[_Joined], salt: bytes, *, keep_text: bool) -> list[ClipRow]:
    extra = tuple(dict.fromkeys(name for one in found for name in one.post.extra))
    return [_row(one, salt, extra, keep_text=keep_text) for one in found]


def _row(one: _Joined, salt: bytes, extra: Sequence[str], *, keep_text: bool) -> ClipRow:
    post = one.post
    columns = {
        "sha256": one.sha256,
        **{name: post.counts[name].value for name in COUNTS},
        "created_at": _iso(post.created_at),
        "crawled_at": _iso(post.crawled_at),
        "duration_s": post.duration_s.value,
        "width": post.width,
        "height": post.height,
        "music": pseudonym(post.music, salt, "music") if post.music else None,
        "is_ad": post.is_ad,
        "source": post.format,
        "platform": post.platform,
    }
    own = {name: post.extra.get(name) for name in extra if name not in {"id", "path", "split", "author", *columns}}
    text = {"text": dict(post.text)} if keep_text else {}
    author = pseudonym(post.author, salt, "author") if post.author else None
    return ClipRow(one.id, one.path, post.split if post.split in SPLITS else None, author, {**columns, **own, **text})


def _iso(moment: Reading[datetime]) -> str | None:
    return moment.value.isoformat(timespec="seconds").replace("+00:00", "Z") if moment.value else None


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
