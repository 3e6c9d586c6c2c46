import json

import pytest

from benchmarks.__main__ import write_table
from benchmarks.side_by_side import compare


def test_contestants_take_turns_and_the_table_says_who_was_faster(tmp_path):
    imports = {f"import {package}": ("starting:importing", {"package": package}) for package in ("json", "sys")}
    rows = compare(imports, rounds=2)
    assert all(len(row["seconds"]) == 2 and row["median"] > 0 and row["peak_megabytes"] > 0 for row in rows.values())
    for row, median in zip(rows.values(), (0.5, 1.0), strict=True):
        row["median"] = median
    results = {"machine": "a machine", "date": "2026-11-23", "commit": "abc", "versions": {"numpy": "2"}}
    write_table({**results, "results": {"start": {"imports": json.loads(json.dumps(rows))}}}, tmp_path / "results.md")
    table = (tmp_path / "results.md").read_text()
    assert "on a machine, 2026-11-23, commit abc; numpy 2." in table
    assert "| imports | import json | 0.500 | 2.0 times | is the first |" in table
    assert "| imports | import sys | 1.000 | 1.0 times | 2.00 x |" in table


def test_a_contestant_that_fails_is_quoted():
    with pytest.raises(RuntimeError, match="no_such_package"):
        compare({"broken": ("starting:importing", {"package": "no_such_package"})}, rounds=1)
