import functools
import json

import numpy as np
import pytest

import gan_utils.gan
from benchmarks import training_steps
from benchmarks.__main__ import BENCHMARKS, write_table
from benchmarks.side_by_side import compare
from gan_utils import fast

pytestmark = pytest.mark.slow


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


def test_memory_of_a_contestant_does_not_begin_with_that_of_its_parent():
    parent = np.ones(40_000_000)  # 320 MB
    rows = compare({"little": ("starting:importing", {"package": "json"})}, rounds=1)
    assert rows["little"]["peak_megabytes"] < parent.nbytes / 1e6


def test_a_contestant_that_fails_is_quoted():
    with pytest.raises(RuntimeError, match="no_such_package"):
        compare({"broken": ("starting:importing", {"package": "no_such_package"})}, rounds=1)


def test_every_benchmark_says_what_it_measures():
    assert all(benchmark.__doc__ for benchmark in BENCHMARKS.values())


@pytest.fixture
def one_step(monkeypatch):
    monkeypatch.setitem(training_steps.STEPS, 64, 1)
    monkeypatch.setattr(fast, "speed_up", fast.speed_up)  # one contestant replaces it, in a process of its own


@pytest.mark.parametrize("experiment", ["brain", "knee"])
def test_contestants_train_networks_of_the_same_size(experiment, one_step):
    choice = {"experiment": experiment, "image_size": 64, "precision": "float32"}
    parameters = set()
    for name, (function, arguments) in training_steps.all_contestants(**choice).items():
        if "PyTorch" not in name:
            work, said = getattr(training_steps, function.split(":")[1])(**arguments)
            work()
            assert said["images"] == 16
            parameters.add(said["parameters"])
    assert len(parameters) == 1


@pytest.mark.parametrize("plain", [False, True])
def test_the_plain_contestant_has_the_optimisers_of_keras(plain, one_step, monkeypatch):
    models, build = [], gan_utils.gan.build_gan
    monkeypatch.setattr(gan_utils.gan, "build_gan", lambda settings: models.append(build(settings)) or models[-1])
    training_steps.by_gan_utils(plain=plain, experiment="brain", image_size=64)
    kernels = {type(layer.call) for layer in models[0].discriminator.layers if "dropout" in layer.name}
    assert (type(models[0].generator_optimizer.update_step) is functools.partial) != plain
    assert (kernels == {functools.partial}) != plain


def test_peers_in_pytorch_have_networks_of_the_same_size():
    pytest.importorskip("torch")
    from benchmarks.pytorch_networks import build_pair

    for experiment in ("brain", "knee"):
        settings = training_steps.settings_of(experiment, 64)
        peers = sum(parameter.numel() for network in build_pair(settings) for parameter in network.parameters())
        assert peers == training_steps.parameters(*gan_utils.networks.build_pair(settings))
