"""Train on several machines together: start the same command on each of them, only the index differs.

python -m scripts.train_on_several_machines --machines host1:12345,host2:12345 --index 0

They need the same version of this project and the same data; each takes an equal part of every batch. Machine 0 writes
the run's folder. TF_CONFIG, where it is set, takes the place of --machines and --index.
"""

import gc
import json
import os
import re
import signal
import sys
from contextlib import nullcontext

from scripts.command_line import make_parser, parsed_settings

parser = make_parser("scripts.train_on_several_machines", __doc__)
parser.add_argument("--machines", metavar="HOST:PORT,...", help="of each; default: the environment variable TF_CONFIG")
parser.add_argument("--index", type=int, help="which of them this one is, counted from 0")
if __name__ == "__main__":
    arguments = parser.parse_args()  # before TensorFlow is imported, so that --help answers at once

from scripts import import_tensorflow

import_tensorflow()

import keras
import tensorflow as tf

import prepare
from gan_utils import counted, data, run_folder
from gan_utils.callbacks import Diverged
from gan_utils.fast import list_machines, read_tf_config
from gan_utils.gan import GAN, build_gan
from gan_utils.pair import named_variables
from scripts.train import fit


def main(arguments):
    try:
        settings = parsed_settings(arguments)
        join_machines(arguments.machines, arguments.index)
        train_together(settings)
        return
    except (ValueError, Diverged, OSError) as error:  # DataError is a ValueError
        message = f"Cannot train: {error}"
    except KeyboardInterrupt:
        message = "Stopped; the same commands continue after the last whole epoch."
    except tf.errors.OpError as error:
        if "Collective ops is aborted" not in str(error):
            raise
        message = describe_lost_machine(str(error))
    # Out here nothing holds the strategy any more; what is left of its threads at exit would have the last word.
    gc.collect()
    sys.exit(f"\n{message}")


def join_machines(addresses, index):
    """Tell TensorFlow by TF_CONFIG which machines train together.

    Args:
        addresses: "host:port" of each with commas between, or None: TF_CONFIG is there already.
        index: which of them this one is.

    Raises:
        ValueError: these do not go together.
    """
    if addresses is None and index is None and os.environ.get("TF_CONFIG"):
        if not list_machines():
            raise ValueError("The environment variable TF_CONFIG names no machines: correct or unset it")
        return
    if addresses is None or index is None:
        raise ValueError("--machines and --index belong together")
    if os.environ.get("TF_CONFIG"):
        raise ValueError("TF_CONFIG names the machines already: unset it, or leave out --machines and --index")
    workers = addresses.split(",")
    if wrong := [worker for worker in workers if not re.fullmatch(r".+:\d+", worker)]:
        raise ValueError(f"--machines needs host:port of each machine, such as 10.0.0.1:12345, not '{wrong[0]}'")
    if not 0 <= index < len(workers):
        raise ValueError(f"--index {index} does not fit {counted(len(workers), 'machine')}: they count from 0")
    os.environ["TF_CONFIG"] = json.dumps({"cluster": {"worker": workers}, "task": {"type": "worker", "index": index}})


def machine_index():
    """The number of this machine among all; machine 0 writes the run's folder."""
    return read_tf_config()[1]


def train_together(settings):
    """What `scripts.train.train` does on one machine; returns the run's folder, None on all machines but the first."""
    print(f"Machine {machine_index()} of {', '.join(list_machines())}; waiting for the others ...", flush=True)
    strategy = wait_for_machines()
    keras.utils.set_random_seed(settings.seed)
    prepare.phantoms(settings)  # in a shared folder, one machine makes them and the others wait
    splits = data.load(settings)
    model = build_shared_gan(settings, strategy)
    first = machine_index() == 0
    with run_folder.training(settings, splits, model) if first else nullcontext((None, 0)) as (folder, epochs_done):
        epochs_done = share_state(strategy, model, epochs_done)
        if not first:
            print(f"{epochs_done} of {counted(settings.epochs, 'epoch')} done", flush=True)
        fit(model, settings, splits, folder, epochs_done, options=shared_batches())
    return folder


def wait_for_machines():
    """A strategy for all machines. TensorFlow must not have computed anything yet; it waits until all have come."""
    answer = signal.signal(signal.SIGINT, signal.SIG_DFL)  # Python cannot answer Ctrl-C while TensorFlow waits
    strategy = tf.distribute.MultiWorkerMirroredStrategy()
    signal.signal(signal.SIGINT, answer)
    return strategy


def build_shared_gan(settings, strategy):
    """`build_gan` on all machines. Its training step returns losses of shape (1,): Keras averages over axis 0 there."""
    with strategy.scope():
        model = build_gan(settings)
    model.train_step = lambda data: {name: loss[None] for name, loss in GAN.train_step(model, data).items()}
    return model


def shared_batches():
    """`tf.data.Options` with which several machines, each of which makes every batch, take a part of each."""
    options = tf.data.Options()
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.DATA
    return options


def share_state(strategy, model, epochs_done):
    """The first machine has the folder and its state; the others receive both by network. Returns its epochs done."""
    for variable in named_variables(model).values():
        variable.assign(from_first(strategy, variable.numpy()))
    return int(from_first(strategy, epochs_done))


def from_first(strategy, value):
    """The value that the first device has, on every machine."""

    def on_each_device():
        context = tf.distribute.get_replica_context()
        is_first = context.replica_id_in_sync_group == 0
        return context.all_reduce("SUM", tf.where(is_first, value, tf.zeros_like(value)))

    return strategy.experimental_local_results(strategy.run(on_each_device))[0].numpy()


def describe_lost_machine(error):
    """Which machine has gone and what to do, from what TensorFlow says when the machines lose each other."""
    others = {int(number) for number in re.findall(r"/task:(\d+)", error)} - {machine_index()}
    names = ", ".join(f"{number} ({list_machines()[number]})" for number in sorted(others))
    return (
        f"Machine {names or 'one of the others'} has gone, or cannot be reached. Start the same command on every "
        "machine again: training continues after the last whole epoch."
    )


if __name__ == "__main__":
    main(arguments)
