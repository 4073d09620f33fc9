"""Energy counters, from a folder that looks like powercap's."""

from pathlib import Path

import pytest

from shortcast.runtime.energy import EnergyMeter


def write(root: Path, zone: str, microjoules: int, most: int = 1_000_000) -> None:
    (root / zone).mkdir(parents=True, exist_ok=True)
    (root / zone / "energy_uj").write_text(f"{microjoules}\n")
    (root / zone / "max_energy_range_uj").write_text(f"{most}\n")


def test_packages_are_added_up_and_their_parts_are_not(tmp_path: Path) -> None:
    write(tmp_path, "intel-rapl:0", 100)
    write(tmp_path, "intel-rapl:0:0", 50)
    write(tmp_path, "intel-rapl:1", 900_000)
    meter = EnergyMeter(tmp_path)
    assert meter.available
    write(tmp_path, "intel-rapl:0", 250_100)
    write(tmp_path, "intel-rapl:0:0", 900_000)
    write(tmp_path, "intel-rapl:1", 950_000)
    assert meter.joules() == pytest.approx(0.3)


def test_a_counter_that_went_round_is_put_right(tmp_path: Path) -> None:
    write(tmp_path, "intel-rapl:0", 900_000)
    meter = EnergyMeter(tmp_path)
    write(tmp_path, "intel-rapl:0", 100_000)
    assert meter.joules() == pytest.approx(0.2)
    write(tmp_path, "intel-rapl:0", 150_000)
    assert meter.joules() == pytest.approx(0.25)


@pytest.mark.parametrize("content", [None, "", "many"])
def test_where_nothing_counts_nothing_is_said(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "intel-rapl:0").mkdir()
        (tmp_path / "intel-rapl:0" / "energy_uj").write_text(content)
    meter = EnergyMeter(tmp_path)
    assert not meter.available
    assert meter.joules() is None


def test_a_counter_that_goes_away_ends_the_count(tmp_path: Path) -> None:
    write(tmp_path, "intel-rapl:0", 1)
    meter = EnergyMeter(tmp_path)
    (tmp_path / "intel-rapl:0" / "energy_uj").unlink()
    assert meter.joules() is None
