"""Every format the importer knows, in files shaped as its documentation and its tools shape them: good ones and damaged ones."""

from __future__ import annotations

import json
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest

from shortcast.errors import DataError
from shortcast.training.documents import read_document
from shortcast.training.formats import FORMATS, Post, read_sources
from shortcast.training.layouts import COUNTS, LAYOUTS, sniff

CREATED, CRAWLED = 1706702400, 1707307200
ID = "7006694664724122881"
YT_DLP = {
    "id": ID, "_type": "video", "extractor": "TikTok", "extractor_key": "TikTok", "webpage_url": "x", "title": "a title",
    "view_count": 5000, "like_count": 400, "repost_count": 30, "comment_count": 20, "save_count": 10, "timestamp": CREATED,
    "epoch": CRAWLED, "duration": 14, "width": 576, "height": 1024, "uploader": "somebody", "uploader_id": "678582",
    "channel_id": "MS4wLjAB", "track": "original sound", "artists": ["somebody"],
}  # fmt: skip
RESEARCH = {
    "id": int(ID), "create_time": CREATED, "region_code": "DE", "view_count": 5000, "like_count": 400, "comment_count": 20,
    "share_count": 30, "favorites_count": 10, "video_duration": 14, "username": "somebody", "music_id": 99, "hashtag_names": ["a", "b"],
}  # fmt: skip
WEB = {
    "id": ID, "desc": "text", "createTime": str(CREATED), "isAd": False, "video": {"duration": 14, "width": 576, "height": 1024},
    "author": {"id": "678582", "uniqueId": "somebody"}, "music": {"id": "99"},
    "stats": {"playCount": 5000, "diggCount": 400, "shareCount": 30, "commentCount": 20, "collectCount": 10},
}  # fmt: skip
SCRAPER = {
    "id": ID, "text": "text", "createTime": CREATED, "authorMeta": {"id": "678582", "name": "somebody"}, "musicMeta": {"musicId": "99"},
    "videoMeta": {"duration": 14, "width": 576, "height": 1024}, "playCount": 5000, "diggCount": 400, "shareCount": 30, "commentCount": 20,
}  # fmt: skip
APIFY = {**SCRAPER, "collectCount": 10, "createTime": None, "createTimeISO": "2024-01-31T12:00:00.000Z"}
YOUTUBE = {
    "kind": "youtube#video", "etag": "x", "id": "dQw4w9WgXcQ",
    "snippet": {"publishedAt": "2024-01-31T12:00:00Z", "channelId": "UC1", "title": "t"},
    "contentDetails": {"duration": "PT14S"},
    "statistics": {"viewCount": "5000", "likeCount": "400", "favoriteCount": "0", "commentCount": "20"},
}  # fmt: skip
PYKTOK = (
    "video_id,video_timestamp,video_duration,video_locationcreated,video_diggcount,video_sharecount,video_commentcount,video_playcount,"
    "video_description,video_is_ad,author_username,author_followercount\n"
    f'{ID},2024-01-31T12:00:00,14,DE,400,30,20,5000,"one, two",False,somebody,1000\n'
)
KAGGLE = (
    "#,video_id,video_duration_sec,video_transcription_text,video_view_count,video_like_count,video_share_count,video_download_count,"
    f"video_comment_count\n1,{ID},14,words,5000.0,400.0,30.0,7.0,20.0\n"
)


def write(path: Path, content: Any) -> Path:
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


def lines(*values: Any) -> str:
    return "".join(json.dumps(value) + "\n" for value in values)


CASES: dict[str, tuple[str, Any, str]] = {
    "yt-dlp": ("a.info.json", YT_DLP, "yt-dlp"),
    "research page": ("a.json", {"data": {"videos": [RESEARCH], "cursor": 1, "has_more": False}, "error": {"code": "ok"}}, "research-api"),
    "research list": ("a.json", [RESEARCH], "research-api"),
    "research lines": ("a.ndjson", lines(RESEARCH, {**RESEARCH, "id": 2}), "research-api"),
    "research pages as lines": ("a.jsonl", lines({"data": {"videos": [RESEARCH]}}, {"data": {"videos": []}}), "research-api"),
    "web list": ("a.json", {"itemList": [WEB]}, "tiktok-web"),
    "web page": ("a.json", {"__DEFAULT_SCOPE__": {"webapp.video-detail": {"itemInfo": {"itemStruct": WEB}}}}, "tiktok-web"),
    "web module": ("a.json", {"ItemModule": {ID: {**WEB, "author": "somebody"}}}, "tiktok-web"),
    "web search": ("a.json", {"data": [{"type": 1, "item": WEB}]}, "tiktok-web"),
    "zeeschuimer": ("a.ndjson", lines({"item_id": ID, "timestamp_collected": CRAWLED * 1000, "data": WEB}), "tiktok-web"),
    "statsV2": ("a.json", [{**WEB, "statsV2": {key: str(value) for key, value in WEB["stats"].items()}, "stats": {}}], "tiktok-web"),
    "scraper": ("a.json", {"headers": {}, "collector": [SCRAPER]}, "tiktok-scraper"),
    "scraper csv": (
        "a.csv",
        "id,text,createTime,authorMeta.id,authorMeta.name,musicMeta.musicId,videoMeta.duration,videoMeta.width,videoMeta.height,diggCount,"
        f"shareCount,playCount,commentCount\n{ID},text,{CREATED},678582,somebody,99,14,576,1024,400,30,5000,20\n",
        "tiktok-scraper",
    ),
    "apify": ("a.json", [APIFY], "tiktok-scraper"),
    "pyktok": ("a.csv", PYKTOK, "pyktok"),
    "youtube": ("a.json", {"kind": "youtube#videoListResponse", "items": [YOUTUBE]}, "youtube-api"),
    "kaggle": ("a.csv", KAGGLE, "csv"),
    "semicolons": ("a.csv", f"id;views;likes;comments;shares;date\n{ID};5.000.000;400;20;30;20240131\n", "csv"),
    "tabs": ("a.tsv", f"Video ID\tView Count\tLikes\tComments\tShares\n{ID}\t5K\t400\t20\t30\n", "csv"),
    "byte order mark": ("a.csv", f"\ufeffid,views,likes,comments,shares\r\n{ID},5000,400,20,30\r\n\r\n", "csv"),
    "blank columns": ("a.csv", f"id,views,likes,comments,shares,,\n{ID},5000,400,20,30,,\n", "csv"),
    "lines": ("a.jsonl", lines({"id": ID, "views": 5000, "likes": "400", "comments": 20, "shares": 30, "user": "somebody"}), "jsonl"),
}  # fmt: skip


def only(path: Path, format_name: str = "auto") -> Post:
    (source,) = read_sources(path, format_name)
    return source.posts[0]


@pytest.mark.parametrize("case", CASES)
def test_auto_tells_the_format_and_reads_its_counts(case: str, tmp_path: Path) -> None:
    name, content, known = CASES[case]
    (source,) = read_sources(write(tmp_path / name, content))
    assert source.format == known
    post = source.posts[0]
    assert post.id == ("dQw4w9WgXcQ" if known == "youtube-api" else ID)
    views = {"semicolons": 5_000_000}.get(case, 5000)
    assert [post.counts[count].value for count in ("views", "likes", "comments")] == [views, 400, 20]
    assert post.counts["shares"].value == (None if known == "youtube-api" else 30)
    assert only(tmp_path / name, known).counts == post.counts, "naming the format gives the same"


@pytest.mark.parametrize("case", [case for case, (_, _, known) in CASES.items() if known not in ("csv", "jsonl")])
def test_every_real_format_has_time_length_and_author(case: str, tmp_path: Path) -> None:
    name, content, _ = CASES[case]
    post = only(write(tmp_path / name, content))
    assert post.created_at.value == datetime(2024, 1, 31, 12, tzinfo=timezone.utc)
    assert post.duration_s.value == 14
    assert post.author in ("678582", "somebody", "UC1")
    assert post.platform == ("youtube" if case == "youtube" else "tiktok")


@pytest.mark.parametrize(
    ("case", "saves"), [("yt-dlp", 10), ("research page", 10), ("web list", 10), ("apify", 10), ("scraper", None), ("pyktok", None)]
)
def test_saves_where_the_format_has_them(case: str, saves: int | None, tmp_path: Path) -> None:
    name, content, _ = CASES[case]
    read = only(write(tmp_path / name, content)).counts["saves"]
    assert (read.value, read.note) == (saves, None)


def test_crawl_times_come_from_yt_dlp_and_from_the_zeeschuimer_envelope(tmp_path: Path) -> None:
    for case in ("yt-dlp", "zeeschuimer"):
        name, content, _ = CASES[case]
        crawled = only(write(tmp_path / name, content)).crawled_at.value
        assert crawled is not None
        assert crawled.timestamp() == CRAWLED


def test_yt_dlps_author_is_the_id_that_other_formats_of_the_site_know(tmp_path: Path) -> None:
    assert only(write(tmp_path / "a.info.json", YT_DLP)).author == "678582"
    tube = {**YT_DLP, "extractor": "youtube", "extractor_key": "Youtube", "uploader_id": "@somebody", "channel_id": "UC1"}
    post = only(write(tmp_path / "b.info.json", tube))
    assert (post.author, post.platform, post.music) == ("UC1", "youtube", "original sound + somebody")


@pytest.mark.parametrize(
    ("item", "why"),
    [
        ({**YT_DLP, "_type": "playlist", "entries": []}, "playlist"),
        ({**YT_DLP, "vcodec": "none"}, "no pictures"),
        ({**WEB, "imagePost": {"images": [1]}}, "image post"),
        ({**APIFY, "isSlideshow": True}, "image post"),
        (WEB, None),
        (YT_DLP, None),
    ],
)
def test_what_is_no_video_says_why(item: dict[str, Any], why: str | None, tmp_path: Path) -> None:
    assert only(write(tmp_path / "a.json", item)).not_video == why


def test_a_count_that_is_there_and_empty_is_hidden_and_one_that_is_not_there_is_absent(tmp_path: Path) -> None:
    post = only(write(tmp_path / "a.json", [{**RESEARCH, "like_count": None, "view_count": "1.2M"}]))
    assert [(post.counts[name].value, post.counts[name].note) for name in ("likes", "views")] == [(None, "hidden"), (1_200_000, "rounded")]
    assert only(write(tmp_path / "b.csv", KAGGLE)).counts["saves"].note is None


def test_own_columns_of_numbers_stay_and_text_and_identities_do_not(tmp_path: Path) -> None:
    table = "id,views,ecr,funny,caption,follower_count,soundId,user_age,category_id\n1,5,0.5,True,hi,7,12,30,4\n2,6,,False,,8,13,31,5\n"
    (source,) = read_sources(write(tmp_path / "a.csv", table))
    assert source.posts[0].extra == {"ecr": 0.5, "funny": 1.0, "follower_count": 7.0, "category_id": 4.0}
    assert source.posts[1].extra["ecr"] is None
    assert source.dropped == ("caption", "user_age")
    assert source.posts[0].music == "12"
    assert source.posts[0].text == {"caption": "hi", "user_age": "30"}


def test_a_folder_of_info_files_is_yt_dlps_and_one_damaged_file_does_not_stop_the_others(tmp_path: Path) -> None:
    write(tmp_path / "a.info.json", YT_DLP)
    write(tmp_path / "b.info.json", json.dumps(YT_DLP)[:200])
    write(tmp_path / "c.info.json", "")
    (tmp_path / "deep").mkdir()
    write(tmp_path / "deep" / "d.info.json", {**YT_DLP, "id": "2"})
    write(tmp_path / "other.csv", KAGGLE)
    (source,) = read_sources(tmp_path)
    assert (source.format, [post.id for post in source.posts]) == ("yt-dlp", [ID, "2"])
    assert [Path(damage.where).name for damage in source.damages] == ["b.info.json", "c.info.json"]
    assert source.damages[0].reason.startswith("line 1: not valid JSON")


def test_a_folder_of_tables_is_read_file_by_file(tmp_path: Path) -> None:
    write(tmp_path / "a.csv", KAGGLE)
    write(tmp_path / "b.json", [RESEARCH])
    write(tmp_path / ".hidden.csv", KAGGLE)
    write(tmp_path / "skipped.jsonl", lines({"id": "1"}))
    assert [one.format for one in read_sources(tmp_path, skip=(tmp_path / "skipped.jsonl",))] == ["csv", "research-api"]


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.json", '{"data":\n {"videos": [}', r"a\.json, line 2: not valid JSON"),
        ("a.ndjson", lines(WEB) + '{"id": "2", "st\n' + lines(WEB), r"a\.ndjson, line 2: not valid JSON"),
        ("a.jsonl", '{"id": "2", "st\n' + lines(WEB), r"a\.jsonl, line 1: not valid JSON"),
        ("a.json", "", r"a\.json, line 1: not valid JSON"),
        ("a.json", "[" * 100_000, r"a\.json, line 1: not valid JSON"),
        ("a.json", "[1, 2]", r"a\.json, item 1: expected an object with a post's fields, got int"),
        ("a.json", "[]", "holds no post"),
        ("a.csv", "id,views\n1,2\n3,4,5\n", r"a\.csv, line 3: 3 fields, but the header has 2"),
        ("a.csv", 'id,views,text\n1,2,"open\n3,4,x\n', r"a\.csv, line 2: not valid CSV .*quote"),
        ("a.tsv", 'id\tviews\ttext\n1\t2\t"so" he said\n', r"a\.tsv, line 2: not valid CSV"),
        ("a.csv", "id,views,id\n1,2,3\n", r"a\.csv, line 1: the header names 'id' twice"),
        ("a.csv", "", "holds no post"),
        ("a.csv", "id,views\n", "holds no post"),
        ("a.txt", "id,views\n1,2\n", r"expected a file that ends in"),
    ],
)
def test_a_damaged_file_is_one_sentence_with_its_line(name: str, content: str, says: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=says) as caught:
        read_sources(write(tmp_path / name, content))
    assert "\n" not in str(caught.value)


def test_text_that_is_not_utf8_names_the_line(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b"id,views,text\n1,2,ok\n3,4,caf\xe9\n")
    with pytest.raises(DataError, match=r"a\.csv, line 3: not UTF-8 text \(byte 0xe9\)"):
        read_sources(tmp_path / "a.csv")


def test_what_is_not_there_or_not_known(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist"):
        read_sources(tmp_path / "nowhere")
    with pytest.raises(DataError, match=r"holds no \.info\.json, JSON or CSV"):
        read_sources(tmp_path)
    with pytest.raises(DataError, match="'excel' is unknown; it is one of auto, yt-dlp, research-api"):
        read_sources(tmp_path, "excel")
    assert ("auto", *LAYOUTS) == FORMATS


def test_rows_after_a_field_with_line_breaks_keep_their_line_numbers(tmp_path: Path) -> None:
    found = read_document(write(tmp_path / "a.csv", 'id,text\n1,"two\nlines"\n2,x\n'))
    assert [node.where.rpartition(" ")[2] for node in found] == ["2", "4"]


@pytest.mark.parametrize("name", ["yt-dlp", "research-api", "tiktok-web", "tiktok-scraper", "youtube-api"])
def test_every_path_of_a_layout_leads_somewhere_in_its_sample(name: str) -> None:
    sample: dict[str, Any] = {
        "yt-dlp": YT_DLP,
        "research-api": RESEARCH,
        "tiktok-web": WEB,
        "tiktok-scraper": SCRAPER,
        "youtube-api": YOUTUBE,
    }[name]
    assert sniff(sample, table=False) == name
    assert set(COUNTS[:3]) <= set(LAYOUTS[name].paths)


def test_parquet_without_pyarrow_says_what_to_install(tmp_path: Path) -> None:
    try:
        import pyarrow  # noqa: F401
    except ImportError:
        with pytest.raises(DataError, match=r"shortcast\[parquet\]"):
            read_sources(write(tmp_path / "a.parquet", "PAR1"))
    else:
        with pytest.raises(DataError, match="cannot be read as Parquet"):
            read_sources(write(tmp_path / "a.parquet", "PAR1"))
