"""Where each format keeps what a manifest needs, and how a format is told from its structure.

A path is dotted (`stats.playCount`) and means a nested value or, in a flattened table, a column of that very name. `a+b` joins two
values and needs both. The first path that leads to something wins.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

COUNTS = ("views", "likes", "comments", "shares", "saves")
Item = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Layout:
    """One format."""

    name: str
    platform: str | None
    """The platform all its posts are from, or None where each post says."""
    paths: Mapping[str, tuple[str, ...]]
    """By field: the paths to look at, the best first."""
    text: tuple[str, ...]
    """Names, handles, descriptions and addresses: dropped unless asked for."""
    flat: bool = False
    """Columns are matched by alias whatever their case and punctuation, and other columns of numbers are kept."""


_YT_DLP = Layout(
    name="yt-dlp",
    platform=None,
    paths={
        "id": ("id",),
        "views": ("view_count",),
        "likes": ("like_count",),
        "comments": ("comment_count",),
        "shares": ("repost_count",),
        "saves": ("save_count",),
        "created_at": ("timestamp", "release_timestamp", "upload_date"),
        "crawled_at": ("epoch",),
        "duration_s": ("duration",),
        "width": ("width",),
        "height": ("height",),
        "author": ("channel_id", "uploader_id", "uploader", "channel"),
        "music": ("track+artists", "track+artist"),
    },
    text=("title", "description", "uploader", "uploader_id", "channel", "track", "artists", "artist", "tags", "webpage_url"),
)
_RESEARCH_API = Layout(
    name="research-api",
    platform="tiktok",
    paths={
        "id": ("id",),
        "views": ("view_count",),
        "likes": ("like_count",),
        "comments": ("comment_count",),
        "shares": ("share_count",),
        "saves": ("favorites_count",),
        "created_at": ("create_time",),
        "duration_s": ("video_duration",),
        "author": ("username",),
        "music": ("music_id",),
    },
    text=("username", "video_description", "voice_to_text", "hashtag_names"),
)
_TIKTOK_WEB = Layout(
    name="tiktok-web",
    platform="tiktok",
    paths={
        "id": ("id",),
        # statsV2 has the same counts as strings, but not cut to 32 bits.
        **{
            field: (f"statsV2.{key}", f"stats.{key}")
            for field, key in zip(COUNTS, ("playCount", "diggCount", "commentCount", "shareCount", "collectCount"), strict=True)
        },
        "created_at": ("createTime",),
        "crawled_at": ("timestamp_collected",),
        "duration_s": ("video.duration",),
        "width": ("video.width",),
        "height": ("video.height",),
        "author": ("author.id", "authorId", "author.uniqueId", "author"),
        "music": ("music.id",),
        "is_ad": ("isAd",),
    },
    text=("desc", "author.uniqueId", "author.nickname", "music.title", "music.authorName"),
)
_TIKTOK_SCRAPER = Layout(
    name="tiktok-scraper",
    platform="tiktok",
    paths={
        "id": ("id", "videoMeta.id"),
        "views": ("playCount",),
        "likes": ("diggCount",),
        "comments": ("commentCount",),
        "shares": ("shareCount",),
        "saves": ("collectCount",),
        "created_at": ("createTime", "createTimeISO"),
        "crawled_at": ("scrapedAt",),
        "duration_s": ("videoMeta.duration",),
        "width": ("videoMeta.width",),
        "height": ("videoMeta.height",),
        "author": ("authorMeta.id", "authorMeta.name"),
        "music": ("musicMeta.musicId",),
        "is_ad": ("isAd",),
    },
    text=("text", "authorMeta.name", "authorMeta.nickName", "musicMeta.musicName", "musicMeta.musicAuthor", "webVideoUrl"),
)
_YOUTUBE_API = Layout(
    name="youtube-api",
    platform="youtube",
    paths={
        "id": ("id.videoId", "id"),
        "views": ("statistics.viewCount",),
        "likes": ("statistics.likeCount",),
        "comments": ("statistics.commentCount",),
        "created_at": ("snippet.publishedAt",),
        "duration_s": ("contentDetails.duration",),
        "author": ("snippet.channelId",),
        "is_ad": ("paidProductPlacementDetails.hasPaidProductPlacement",),
    },
    text=("snippet.title", "snippet.description", "snippet.channelTitle"),
)
FLAT_ALIASES: Mapping[str, tuple[str, ...]] = {
    "id": ("id", "videoid", "postid", "itemid", "awemeid", "video"),
    "path": ("path", "filepath", "videopath", "filename", "file", "videofile", "videofn", "clip", "media"),
    "views": ("views", "viewcount", "viewscount", "videoviewcount", "plays", "playcount", "videoplaycount"),
    "likes": ("likes", "likecount", "likescount", "videolikecount", "diggcount", "videodiggcount", "hearts", "heartcount"),
    "comments": ("comments", "commentcount", "commentscount", "videocommentcount"),
    "shares": ("shares", "sharecount", "sharescount", "videosharecount", "reposts", "repostcount"),
    "saves": ("saves", "savecount", "savescount", "collectcount", "videocollectcount", "bookmarks", "favoritescount"),
    "created_at": (
        "createdat", "createtime", "createtimeiso", "created", "publishedat", "publishtime", "videotimestamp", "postedat", "timestamp",
        "uploaddate", "date",
    ),
    "crawled_at": ("crawledat", "crawltime", "collectedat", "timestampcollected", "scrapedat", "fetchedat", "epoch"),
    "duration_s": ("durations", "durationsec", "videodurationsec", "videoduration", "duration", "videolength"),
    "width": ("width", "videowidth"),
    "height": ("height", "videoheight"),
    "author": (
        "authorid", "userid", "uploaderid", "channelid", "author", "authorusername", "username", "uploader", "channel", "user", "creator",
    ),
    "music": ("musicid", "soundid", "audioid", "music", "sound"),
    "is_ad": ("isad", "videoisad", "issponsored", "ad"),
    "split": ("split",),
    "platform": ("platform",),
}  # fmt: skip
"""Columns of flat tables by field, in lower case without punctuation."""
_PYKTOK = Layout("pyktok", "tiktok", FLAT_ALIASES, (), flat=True)
_CSV = Layout("csv", None, FLAT_ALIASES, (), flat=True)
_JSONL = Layout("jsonl", None, FLAT_ALIASES, (), flat=True)

LAYOUTS = {layout.name: layout for layout in (_YT_DLP, _RESEARCH_API, _TIKTOK_WEB, _TIKTOK_SCRAPER, _PYKTOK, _YOUTUBE_API, _CSV, _JSONL)}
_FLAT_NAMES = ("csv", "jsonl")


def layout_for(name: str, item: Item) -> Layout:
    """The layout of a format for one item.

    yt-dlp's author is the one thing that differs by site: on TikTok `uploader_id` is the number the other TikTok formats know too,
    and `channel_id` is not; on YouTube it is the other way round.
    """
    layout = LAYOUTS[name]
    if layout is _YT_DLP and platform_of(layout, item) == "tiktok":
        return replace(layout, paths={**layout.paths, "author": ("uploader_id", "channel_id", "uploader", "channel")})
    return layout


def platform_of(layout: Layout, item: Item) -> str | None:
    """`tiktok`, `youtube`, ... in lower case, or None where nothing says."""
    said = layout.platform or find(item, ("extractor_key", "extractor", "platform"))
    return str(said).split(":")[0].strip().lower() or None if said else None


def find(item: Item, paths: tuple[str, ...]) -> Any:
    """What the first path that leads to something leads to; None where there is nothing but null, empty text or more nesting."""
    for path in paths:
        parts = [_scalar(_follow(item, part)) for part in path.split("+")]
        if all(part is not None for part in parts):
            return parts[0] if len(parts) == 1 else " + ".join(map(str, parts))
    return None


def has(item: Item, paths: tuple[str, ...]) -> bool:
    """Whether a path is there at all, be it null."""
    return any(_follow(item, path, missing := object()) is not missing for path in paths)


def _follow(item: Item, path: str, missing: Any = None) -> Any:
    if path in item:
        return item[path]
    found: Any = item
    for key in path.split("."):
        if not isinstance(found, Mapping) or key not in found:
            return missing
        found = found[key]
    return found


def _scalar(found: Any) -> Any:
    if isinstance(found, (list, tuple)) and found and all(isinstance(part, str) for part in found):
        return ", ".join(found)
    return None if isinstance(found, (Mapping, list, tuple)) or (isinstance(found, str) and not found.strip()) else found


def flattened(name: str) -> str:
    """A column's name in lower case without punctuation: `Video_ViewCount` -> `videoviewcount`."""
    return re.sub(r"[^a-z0-9]", "", name.lower())


def words(name: str) -> list[str]:
    """The words of a column's name, in lower case: `soundId`, `sound_id` and `SOUND ID` are alike, and `width` holds no `id`."""
    return [word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", name)]


def sniff(item: Item, *, table: bool) -> str:
    """The format one item looks like.

    Args:
        item: a post, or a row.
        table: whether it is the row of a table, which decides between `csv` and `jsonl` when nothing else does.
    """
    for name, marks in _MARKS:
        if any(all(has(item, (mark,)) for mark in group) for group in marks):
            return name
    return "csv" if table else "jsonl"


# Groups of paths: a format is recognised by all paths of any one group.
_MARKS: tuple[tuple[str, tuple[tuple[str, ...], ...]], ...] = (
    ("yt-dlp", (("extractor_key",), ("extractor", "webpage_url"), ("_type", "entries"))),
    ("youtube-api", (("statistics", "snippet"), ("statistics", "contentDetails"), ("kind", "etag", "id"))),
    ("tiktok-scraper", (("authorMeta",), ("videoMeta",), ("authorMeta.id",), ("authorMeta.name",), ("videoMeta.duration",))),
    ("tiktok-web", (("stats.diggCount",), ("stats.playCount",), ("statsV2",))),
    ("pyktok", (("video_id", "video_diggcount"), ("video_id", "video_playcount"))),
    ("research-api", (("id", "create_time", "region_code"), ("id", "create_time", "username"), ("id", "create_time", "view_count"))),
)
_CONTAINERS = (
    "data", "videos", "items", "itemList", "item_list", "collector", "item", "itemInfo", "itemStruct", "ItemModule", "__DEFAULT_SCOPE__",
    "webapp.video-detail",
)  # fmt: skip
_KEPT_FROM_ENVELOPE = "timestamp_collected"


def unwrap(where: str, value: Any, *, table: bool = False, envelope: Item | None = None) -> Iterator[tuple[str, Any]]:
    """The posts inside a value: lists are gone through and envelopes opened, whatever their nesting.

    Args:
        where: the place of the value, for messages.
        value: a row, a line or a whole document.
        table: whether it is the row of a table.
        envelope: what the surrounding object says about all inside.

    Yields:
        Place and post; what is no object comes as it is, for the caller to refuse.
    """
    if isinstance(value, list):
        for number, child in enumerate(value, start=1):
            yield from unwrap(f"{where}, item {number}", child, table=table, envelope=envelope)
        return
    kept = dict(envelope or {})
    inner = _inside(value) if isinstance(value, Mapping) and sniff(value, table=table) in _FLAT_NAMES else []
    if not inner:
        yield where, {**kept, **value} if isinstance(value, Mapping) else value
        return
    if _KEPT_FROM_ENVELOPE in value:
        kept[_KEPT_FROM_ENVELOPE] = value[_KEPT_FROM_ENVELOPE]
    for child in inner:
        yield from unwrap(where, child, table=table, envelope=kept)


def _inside(value: Item) -> list[Any]:
    found = {key: value[key] for key in _CONTAINERS if isinstance(value.get(key), (list, Mapping))}
    # ItemModule holds its items by id.
    return [list(child.values()) if key == "ItemModule" and isinstance(child, Mapping) else child for key, child in found.items()]
