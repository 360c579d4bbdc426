"""Documents that commands write for the user: never over a file of another kind."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lrf_dse.cli.profile import sweep_rows
from lrf_dse.cli.show import write_json
from lrf_dse.errors import UsageError


def test_only_an_earlier_output_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "out.json"
    write_json(path, {"unit": "cycles", "rows": [1]})
    write_json(path, {"unit": "cycles", "rows": [2]})
    assert json.loads(path.read_text()) == {"unit": "cycles", "rows": [2]}
    for content in ("", "{}", "[1]", '{"unit": 1, "other": 2}', "\x00", "[" * 100_000):
        path.write_text(content)
        with pytest.raises(UsageError, match="is there already and no earlier output; give another name"):
            write_json(path, {"unit": "cycles", "rows": [3]})
        assert path.read_text() == content


def test_a_switch_that_fails_has_its_reason_in_the_sweep() -> None:
    rows = sweep_rows({"default": 200.0, "no prefetcher": 300.0, "perfect memory": "killed by SIGSEGV"})
    assert rows == [
        ("default", "200", "1.00"),
        ("no prefetcher", "300", "1.50"),
        ("perfect memory", "failed: killed by SIGSEGV", "-"),
    ]
    assert sweep_rows({"default": "killed", "no prefetcher": 300.0})[1] == ("no prefetcher", "300", "-")
