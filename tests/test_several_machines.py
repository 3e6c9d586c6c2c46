"""Two processes that reach each other by loopback stand for two machines."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from functools import partial

import keras
import numpy as np
import pytest
import tensorflow as tf

from gan_utils import PROJECT_FOLDER
from gan_utils.fast import list_machines
from gan_utils.gan import build_gan
from gan_utils.run_folder import epochs_done, read_history
from gan_utils.settings import choose_settings
from scripts.train import train
from scripts.train_on_several_machines import describe_lost_machine, join_machines, machine_index

pytestmark = pytest.mark.slow

TRAIN_TOGETHER = """
import sys

import keras
import numpy as np
import tensorflow as tf

from gan_utils.settings import choose_settings
from scripts.train_on_several_machines import build_shared_gan, join_machines, shared_batches, wait_for_machines

folder, machines, index = sys.argv[1:]
join_machines(machines, int(index))
strategy = wait_for_machines()
keras.utils.set_random_seed(int(index))  # the first machine's weights count
model = build_shared_gan(choose_settings("brain", "smoke"), strategy)
for layer in model.discriminator.layers:
    layer.rate = 0.0  # of dropout
batches = tf.data.Dataset.from_tensor_slices(np.load(f"{folder}/images.npy")).batch(16)
steps = []
callback = keras.callbacks.LambdaCallback(
    on_train_batch_end=lambda batch, logs: steps.append(",".join(f"{value:.8g}" for value in logs.values()))
)
model.fit(batches.with_options(shared_batches()), shuffle=False, verbose=0, callbacks=[callback])
np.savez(f"{folder}/{index}.npz", *model.get_weights(), steps=np.loadtxt(steps, delimiter=","))
"""


@pytest.fixture
def start(tmp_path):
    """Starts a process with its output in a file; all are gone after the test."""
    processes = []

    def start_one(*arguments):
        environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "-1"}
        environment.pop("TF_CONFIG", None)
        with open(tmp_path / f"output{len(processes)}.txt", "w") as output:
            command = [sys.executable, *map(str, arguments)]
            options = {"env": environment, "cwd": PROJECT_FOLDER, "stdout": output, "stderr": subprocess.STDOUT}
            processes.append(subprocess.Popen(command, **options))
        processes[-1].said = (tmp_path / output.name).read_text
        return processes[-1]

    yield start_one
    for process in processes:
        process.kill()
        process.wait()


@pytest.fixture
def two_machines():
    """Two addresses of this computer that nobody listens at."""
    with socket.socket() as first, socket.socket() as second:
        for each in (first, second):
            each.bind(("127.0.0.1", 0))
        return ",".join(f"127.0.0.1:{each.getsockname()[1]}" for each in (first, second))


def wait_until(happened, seconds=120):
    end = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.1)


def test_two_machines_train_as_one_does_with_the_same_batches(start, two_machines, tmp_path):
    """With batch normalisation over the whole batch; without dropout, whose masks each machine draws for itself."""
    images = np.random.default_rng(0).uniform(-1, 1, (64, 32, 32, 1)).astype("float32")
    np.save(tmp_path / "images.npy", images)
    processes = [start("-c", TRAIN_TOGETHER, tmp_path, two_machines, index) for index in (0, 1)]
    keras.utils.set_random_seed(0)
    alone = build_gan(choose_settings("brain", "smoke"))
    for layer in alone.discriminator.layers:
        layer.rate = 0.0
    steps = []
    callback = keras.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: steps.append([*logs.values()]))
    batches = tf.data.Dataset.from_tensor_slices(images).batch(16)
    alone.fit(batches, shuffle=False, verbose=0, callbacks=[callback])
    for index, process in enumerate(processes):
        assert process.wait(timeout=120) == 0, process.said()
        together = np.load(tmp_path / f"{index}.npz")
        np.testing.assert_allclose(together["steps"], steps, atol=1e-5)
        for number, weight in enumerate(alone.get_weights()):
            np.testing.assert_allclose(together[f"arr_{number}"], weight, atol=1e-5)


def start_training(start, machines, index, output, changes="epochs=1", experiment="brain"):
    """The command of one machine; each is given a folder of its own, to see who writes."""
    settings = f"output='{output / str(index)}' {changes}"
    arguments = "--experiment", experiment, "--profile", "smoke", "--data", "phantoms", "--settings", settings
    return start("-m", "scripts.train_on_several_machines", *arguments, "--machines", machines, "--index", index)


def test_the_first_machine_alone_writes(start, two_machines, tmp_path):
    """Knees, whose networks have nothing at random: a run of one machine comes to the same losses."""
    output = tmp_path / "runs"
    processes = [start_training(start, two_machines, index, output, experiment="knee") for index in (0, 1)]
    for process in processes:
        assert process.wait(timeout=120) == 0, process.said()
    assert os.listdir(output) == ["0"]
    folder = output / "0" / "knee-baseline-smoke"
    written = {"generator.keras", "history.csv", "image_at_epoch_0001.png", "run.json", "step_losses.csv"}
    assert written <= set(os.listdir(folder))
    notes = json.loads((folder / "run.json").read_text())
    assert notes["device"].endswith("on each of 2 machines")
    assert notes["images_seen"] == 4 * 16
    alone = train(choose_settings("knee", "smoke", data="phantoms", output=str(tmp_path / "alone"), epochs=1))
    for name in ("generator_loss", "discriminator_loss"):
        np.testing.assert_allclose(read_history(folder)[name], read_history(alone)[name], atol=1e-4)
    latents = np.zeros((2, notes["settings"]["latent_dim"]))
    assert keras.models.load_model(folder / "generator.keras")(latents).shape == (2, 32, 32, 1)


def have_trained(folder, epochs, processes):
    return epochs_done(folder) >= epochs or any(process.poll() is not None for process in processes)


def test_when_a_machine_goes_the_other_says_so_and_training_can_continue(start, two_machines, tmp_path):
    folder, done = tmp_path / "0" / "brain-baseline-smoke", 0
    for gone in (0, 1):
        processes = [start_training(start, two_machines, index, tmp_path, "epochs=10000") for index in (0, 1)]
        wait_until(partial(have_trained, folder, done + 2, processes))
        other = processes[1 - gone]
        assert [process.poll() for process in processes] == [None, None], other.said()
        processes[gone].send_signal(signal.SIGKILL)
        assert other.wait(timeout=60) == 1
        message = other.said().splitlines()[-1]
        assert message.startswith(f"Machine {gone} ({two_machines.split(',')[gone]}) has gone")
        assert "Start the same command on every machine again" in message
        assert f"{done} of 10,000 epochs done" in other.said()
        done = epochs_done(folder)
    processes = [start_training(start, two_machines, index, tmp_path, f"epochs={done + 1}") for index in (0, 1)]
    for process in processes:
        assert process.wait(timeout=120) == 0, process.said()
        assert f"{done} of {done + 1} epochs done" in process.said()
    assert read_history(folder)["epoch"].tolist() == [*range(1, done + 2)]


def test_a_machine_that_waits_for_the_others_can_be_stopped(start, two_machines, tmp_path):
    process = start_training(start, two_machines, 1, tmp_path)
    wait_until(lambda: "waiting for the others" in process.said())
    time.sleep(2)  # until it does
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=10) == -signal.SIGINT


@pytest.mark.parametrize(
    ("machines", "index", "message"),
    [
        ("a:1,b:1", None, "--machines and --index belong together"),
        ("a:1,b:1", 2, "--index 2 does not fit 2 machines"),
        ("a:1,b", 0, "needs host:port of each machine, such as 10.0.0.1:12345, not 'b'"),
    ],
)
def test_machines_that_do_not_fit_are_refused(machines, index, message, monkeypatch):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    with pytest.raises(ValueError, match=message):
        join_machines(machines, index)
    assert "TF_CONFIG" not in os.environ


def test_a_tf_config_that_is_there_is_used_as_it_is(monkeypatch):
    config = json.dumps({"cluster": {"chief": ["a:1"], "worker": ["b:1"]}, "task": {"type": "worker", "index": 0}})
    monkeypatch.setenv("TF_CONFIG", config)
    join_machines(None, None)
    assert os.environ["TF_CONFIG"] == config
    assert (list_machines(), machine_index()) == (["a:1", "b:1"], 1)
    with pytest.raises(ValueError, match="TF_CONFIG names the machines already"):
        join_machines("a:1,b:1", 0)


@pytest.mark.parametrize("config", ["{", "{}", '{"cluster": {"worker": ["a:1", "b:1"]}}'])
def test_a_tf_config_that_names_no_machine_is_refused_before_anything_is_waited_for(config, monkeypatch):
    monkeypatch.setenv("TF_CONFIG", config)
    with pytest.raises(ValueError, match="TF_CONFIG"):
        join_machines(None, None)


def test_a_lost_machine_is_named(monkeypatch):
    config = {"cluster": {"worker": ["a:1", "b:2", "c:3"]}, "task": {"type": "worker", "index": 0}}
    monkeypatch.setenv("TF_CONFIG", json.dumps(config))
    error = "Collective ops is aborted by: /job:worker/replica:0/task:2 is gone; reported by /replica:0/task:0"
    assert describe_lost_machine(error).startswith("Machine 2 (c:3) has gone")
    assert describe_lost_machine("Collective ops is aborted").startswith("Machine one of the others has gone")
