"""Keeps nbval's reports readable: once a cell of a notebook has failed, the rest of that notebook is skipped."""

import pytest


def pytest_runtest_makereport(item, call):
    if item.fspath.ext == ".ipynb" and call.when == "call" and call.excinfo is not None:
        item.parent.failed_cell = item.name


def pytest_runtest_setup(item):
    if failed_cell := getattr(item.parent, "failed_cell", None):
        pytest.skip(f"{failed_cell} of this notebook failed")
