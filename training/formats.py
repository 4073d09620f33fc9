"""Files of engagement counts as posts: yt-dlp, TikTok's Research API and web items, two scrapers, YouTube's API, CSV and JSON lines."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from ..errors import DataError
from .documents import JSON_SUFFIXES, TABLE_SUFFIXES, Node, read_document
from .layouts import COUNTS, LAYOUTS, Item, Layout, find, flattened, has, layout_for, platform_of, sniff, unwrap, words
from .values import ABSENT, HIDDEN, Reading, parse_count, parse_duration, parse_flag, parse_number, parse_time

INFO_SUFFIX = ".info.json"
"""What `yt-dlp --write-info-json` puts beside the media."""
FORMATS = ("auto", *LAYOUTS)

_IDENTITIES = ("id", "user", "name", "url", "link", "handle", "mail", "phone", "author", "channel", "uploader", "nickname", "username")
"""Columns with these in their names may say who somebody is, so they aren't kept as columns of numbers."""
_MANIFEST = ("sha256", "path", "source", "crawled_at")


@dataclass(frozen=True, slots=True)
class Post:
    """One post, as its source tells it; author, music and text still name people."""

    where: str
    """The file, and the line or item in it."""
    format: str
    platform: str | None
    id: str | None
    path: str | None
    """Where its media is, if the source says so."""
    info_file: Path | None
    """The `.info.json` it came from, whose stem is the media's."""
    counts: Mapping[str, Reading[float]]
    """`views`, `likes`, `comments`, `shares`, `saves`."""
    created_at: Reading[datetime]
    crawled_at: Reading[datetime]
    duration_s: Reading[float]
    width: int | None
    height: int | None
    author: str | None
    music: str | None
    is_ad: bool | None
    split: str | None
    not_video: str | None
    """Why it is no video (a playlist, an image post), or None."""
    extra: Mapping[str, float | None]
    """Columns of numbers and flags that only the user's table has."""
    text: Mapping[str, str]
    """Names, handles, descriptions and addresses."""


@dataclass(frozen=True, slots=True)
class Damage:
    """A file, or a part of one, that could not be read while the others could."""

    where: str
    reason: str


@dataclass(frozen=True, slots=True)
class Source:
    """What one file, or one folder of `.info.json` files, was taken for."""

    path: Path
    format: str
    posts: tuple[Post, ...]
    damages: tuple[Damage, ...] = ()
    dropped: tuple[str, ...] = ()
    """Columns of a table that are text, or may say who somebody is: not in the manifest unless text is kept."""


def read_sources(path: Path, format_name: str = "auto", *, skip: Sequence[Path] = ()) -> list[Source]:
    """Reads a file, or everything in a folder that holds posts.

    Args:
        path: a file, or a folder that is gone through with its subfolders. A folder with `.info.json` files is taken for yt-dlp's.
        format_name: one of `FORMATS`; `auto` tells it from the structure.
        skip: files in the folder that aren't sources.

    Raises:
        DataError: the format is unknown, nothing is there to read, or a file given by name is damaged. In a folder a damaged file is
            noted in its `Source` and the others still go through.
    """
    if format_name not in FORMATS:
        raise DataError(f"format {format_name!r} is unknown; it is one of {', '.join(FORMATS)}")
    if not path.exists():
        raise DataError(f"{path} does not exist")
    if path.is_file():
        return [_read_file(path, format_name)]
    files = [file for file in sorted(path.rglob("*")) if file.is_file() and not _is_hidden(file, path) and file not in skip]
    infos = [file for file in files if file.name.lower().endswith(INFO_SUFFIX)]
    if infos and format_name in ("auto", "yt-dlp"):
        return [_read_infos(path, infos)]
    found = [file for file in files if file.suffix.lower() in JSON_SUFFIXES + TABLE_SUFFIXES]
    if not found:
        raise DataError(f"{path} holds no {INFO_SUFFIX}, JSON or CSV file, so there are no counts to import; give the file that has them")
    return [_read_or_note(file, format_name) for file in found]


def _is_hidden(file: Path, root: Path) -> bool:
    return any(part.startswith(".") for part in file.relative_to(root).parts)


def _read_infos(folder: Path, files: Sequence[Path]) -> Source:
    read = [_read_or_note(file, "yt-dlp") for file in files]
    posts, damages = tuple(post for one in read for post in one.posts), tuple(damage for one in read for damage in one.damages)
    return Source(folder, "yt-dlp", posts, damages)


def _read_or_note(file: Path, format_name: str) -> Source:
    try:
        return _read_file(file, format_name)
    except DataError as error:
        reason = str(error).removeprefix(str(file)).lstrip(",: ")
        return Source(file, format_name, (), (Damage(str(file), reason),))


def _read_file(file: Path, format_name: str) -> Source:
    table = file.suffix.lower() in TABLE_SUFFIXES
    items = list(_items(read_document(file), table=table))
    if not items:
        raise DataError(f"{file} holds no post")
    if all(has(item, (mark,)) for mark in _MANIFEST for _, item in items[:1]):
        raise DataError(f"{file} is a manifest that was imported already: its authors are keys; import what it was made from")
    name = _sniff_all([item for _, item in items], table=table) if format_name == "auto" else format_name
    flat = LAYOUTS[name].flat
    columns = _number_columns([item for _, item in items]) if flat else ()
    info_file = file if file.name.lower().endswith(INFO_SUFFIX) else None
    posts = tuple(_post(where, item, layout_for(name, item), columns, info_file) for where, item in items)
    return Source(file, name, posts, dropped=_dropped(items, columns) if flat else ())


def _items(nodes: Sequence[Node], *, table: bool) -> Iterator[tuple[str, Item]]:
    for node in nodes:
        for where, item in unwrap(node.where, node.value, table=table):
            if not isinstance(item, Mapping):
                raise DataError(f"{where}: expected an object with a post's fields, got {type(item).__name__}")
            yield where, item


def _sniff_all(items: Sequence[Item], *, table: bool) -> str:
    """The format of most items that have one; a few that don't (users among search results) decide nothing."""
    votes = Counter(sniff(item, table=table) for item in items)
    plain = "csv" if table else "jsonl"
    return max((name for name in votes if name != plain), key=lambda name: votes[name], default=plain)


def _post(where: str, item: Item, layout: Layout, columns: Sequence[str], info_file: Path | None) -> Post:
    # In a flat table columns go by their name without case and punctuation.
    fields = {flattened(name): value for name, value in item.items()} if layout.flat else item

    def get(field: str) -> Any:
        return find(fields, layout.paths.get(field, ()))

    return Post(
        where=where,
        format=layout.name,
        platform=_word(get("platform")) or platform_of(layout, item),
        id=_word(get("id")),
        path=_word(get("path")),
        info_file=info_file,
        counts={name: _read(fields, layout, name, parse_count) for name in COUNTS},
        created_at=_read_first(fields, layout, "created_at"),
        crawled_at=_read_first(fields, layout, "crawled_at"),
        duration_s=_read(fields, layout, "duration_s", parse_duration),
        width=_size(get("width")),
        height=_size(get("height")),
        author=_word(get("author")),
        music=_word(get("music")),
        is_ad=parse_flag(get("is_ad")),
        split=_word(get("split")),
        not_video=_not_video(item),
        extra={name: parse_number(item.get(name)) for name in columns},
        text=_text(item, layout, columns),
    )


def _read(fields: Item, layout: Layout, field: str, parse: Any) -> Reading[Any]:
    """Reads the first path that is there; one that is there and empty is hidden, one that isn't is absent."""
    paths = layout.paths.get(field, ())
    return parse(find(fields, paths)) if has(fields, paths) else ABSENT


def _read_first(fields: Item, layout: Layout, field: str) -> Reading[datetime]:
    """The first path that can be read as a moment; what could not be is only said when none can."""
    readings = [parse_time(find(fields, (path,))) for path in layout.paths.get(field, ()) if find(fields, (path,)) is not None]
    return next((reading for reading in readings if reading.value is not None), readings[0] if readings else ABSENT)


def _word(found: Any) -> str | None:
    if found is None or isinstance(found, bool):
        return None
    # Spreadsheets write whole ids as 123.0.
    word = str(int(found)) if isinstance(found, float) and found.is_integer() else str(found).strip()
    return None if word.lower() in HIDDEN else word


def _size(found: Any) -> int | None:
    number = parse_number(found)
    return int(number) if number is not None and number >= 1 else None


def _not_video(item: Item) -> str | None:
    if item.get("_type", "video") not in ("video", "url", "url_transparent"):
        return "playlist"
    image = item.get("imagePost") or item.get("image_post_info") or item.get("slideshowImageLinks")
    if image or parse_flag(item.get("isSlideshow")):
        return "image post"
    return "no pictures" if item.get("vcodec") == "none" else None


def _text(item: Item, layout: Layout, columns: Sequence[str]) -> dict[str, str]:
    names = [name for name in item if _role(name) is None and name not in columns] if layout.flat else list(layout.text)
    found = {name: _word(find(item, (name,))) for name in names}
    return {name: word for name, word in found.items() if word is not None}


def _role(column: str) -> str | None:
    """The field a column of a flat table is, by its aliases."""
    name = flattened(column)
    return next((field for field, aliases in LAYOUTS["csv"].paths.items() if name in aliases), None)


def _number_columns(items: Sequence[Item]) -> tuple[str, ...]:
    """Columns that no alias names, that hold numbers or flags alone, and whose names point at no person."""
    names = dict.fromkeys(name for item in items for name in item if _role(name) is None and not points_at_somebody(name))
    return tuple(name for name in names if _is_number_column([item.get(name) for item in items]))


def _is_number_column(values: Sequence[Any]) -> bool:
    filled = [value for value in values if value is not None and not (isinstance(value, str) and value.strip().lower() in HIDDEN)]
    return bool(filled) and all(parse_number(value) is not None for value in filled)


def points_at_somebody(column: str) -> bool:
    """Whether a column's name says that it may tell who somebody is, or which post it was."""
    said = words(column)
    return "category" not in said and any(word.removesuffix("s") in _IDENTITIES for word in said)


def _dropped(items: Sequence[tuple[str, Item]], columns: Sequence[str]) -> tuple[str, ...]:
    names = dict.fromkeys(name for _, item in items for name in item)
    return tuple(name for name in names if _role(name) is None and name not in columns)
