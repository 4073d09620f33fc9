"""The benchmark's table on a terminal."""

import io
from types import ModuleType

from rich.console import Console

from shortcast.display_bench import print_results


def test_rows_and_refusals_are_shown(made: ModuleType) -> None:
    results = made.made_results(contenders=made.CONTENDERS, count=40)
    out = io.StringIO()
    print_results(Console(file=out, width=200), results)
    text = out.getvalue()
    assert results.bundle["source"] in text
    assert "insufficient" in text
    for row in results.rows:
        if not row.runs:
            assert f"{row.case.contender}" in text
            assert row.refusal in text
