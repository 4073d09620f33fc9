"""Reconnects, without a network: where the clock goes on, what is known again, how long is waited."""

from types import SimpleNamespace
from typing import Any

import pytest

from shortcast.runtime import lasting
from shortcast.runtime.timeline import Timeline


def clock() -> Timeline:
    """Pictures and sound that began at 100 s and came to 8 s."""
    timeline = Timeline([100.0])
    for track in (timeline.track(), timeline.track()):
        for at in range(4):
            assert timeline.place(track, 100.0 + 2 * at, 2.0) == 2 * at
    return timeline


@pytest.mark.parametrize(
    ("pts_s", "replayed", "gap_s", "placed_s"),
    [
        (111.0, False, 3.0, 8.0),  # the clock has gone on: what it says was missed
        (100.0, False, 5.0, 8.0),  # it begins anew: the wall clock says
        (5000.0, False, 5.0, 8.0),  # another clock
        (104.0, True, 0.0, 4.0),  # the server repeats itself
    ],
)
def test_where_media_goes_on(pts_s: float, replayed: bool, gap_s: float, placed_s: float) -> None:
    timeline = clock()
    assert timeline.reconnect(pts_s, replayed=replayed, outage_s=5.0) == gap_s
    assert timeline.epoch == 1
    track, beside = timeline.track(), timeline.track()
    assert timeline.place(track, pts_s, 2.0) == placed_s
    assert timeline.place(beside, pts_s + 0.5, 0.5) == placed_s + 0.5
    assert timeline.place(track, pts_s + 2.0, 2.0) == placed_s + 2.0
    assert timeline.epoch == 1


def test_a_connection_that_brings_nothing_moves_nothing() -> None:
    timeline = clock()
    timeline.reconnect(111.0, replayed=False, outage_s=5.0)
    assert timeline.front_s == 8.0
    assert timeline.reconnect(120.0, replayed=False, outage_s=20.0) == 9.0
    assert timeline.place(timeline.track(), 120.0, 1.0) == 8.0


class FakePacket(bytes):
    """Bytes with the two things a packet has beside them."""

    pts: int | None
    stream: Any

    @classmethod
    def made(cls, pts: int | None, data: bytes, kind: str = "video") -> "FakePacket":
        packet = cls(data)
        packet.pts, packet.stream = pts, SimpleNamespace(type=kind)
        return packet


def test_packets_are_known_again_by_time_and_bytes_and_only_so_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lasting, "REMEMBERED_PACKETS", 100)
    memory = lasting._PacketMemory()
    for pts in range(1000):
        memory.add(FakePacket.made(pts, b"%d" % pts))
    memory.add(FakePacket.made(None, b""))
    assert FakePacket.made(950, b"950") in memory
    assert FakePacket.made(950, b"another") not in memory
    assert FakePacket.made(950, b"950", "audio") not in memory
    assert FakePacket.made(3, b"3") not in memory
    assert memory.began_with(FakePacket.made(3, b"3"))
    assert not memory.began_with(FakePacket.made(950, b"950"))
    assert len(memory._known) == 100


def test_pauses_grow_and_are_capped_and_spread() -> None:
    pauses = [[lasting._pause_s(failed) for _ in range(200)] for failed in range(1, 12)]
    most = [min(lasting.LONGEST_PAUSE_S, lasting.FIRST_PAUSE_S * 2**failed) for failed in range(11)]
    for drawn, limit in zip(pauses, most, strict=True):
        assert limit / 2 <= min(drawn)
        assert max(drawn) <= limit
        assert len(set(drawn)) > 100
