"""Train as notebook 3 does, without the notebook, on one machine or on several together.

python -m gan_utils.train [--experiment brain|knee] [--profile smoke|quick|full] [--recipe baseline] [--data FOLDER]
                          [--settings "epochs=100 batch_size=32"] [--machines host1:12345,host2:12345 --index 0]

Several machines: start the same command on each of them, only the index differs. They need the same version of this
package and the same data; each takes an equal part of every batch. Machine 0 writes the run's folder.
"""

import json
import os
import re
import signal
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # before TensorFlow, whose C++ messages would fill the terminal

import keras
import tensorflow as tf

from gan_utils.arguments import make_parser, settings_of
from gan_utils.callbacks import Diverged, training_callbacks
from gan_utils.datasets import load_slices, steps_in_epoch, training_batches
from gan_utils.dcgan import build_gan
from gan_utils.devices import choose_computing, choose_strategy, machine_index, machines
from gan_utils.figures import read_history
from gan_utils.runs import describe_setup, finish_run, named_variables, restore_state, start_run, written_beside
from gan_utils.settings import short_path


def main():
    parser = make_parser("gan_utils.train", __doc__.splitlines()[0])
    parser.add_argument("--machines", help="host:port of each machine, with commas between; default: TF_CONFIG, if any")
    parser.add_argument("--index", type=int, help="which of them this one is, counted from 0")
    arguments = parser.parse_args()
    try:
        settings = settings_of(arguments)
        join_machines(arguments.machines, arguments.index)
        train(settings)
    except (ValueError, Diverged, OSError) as error:  # DataError is a ValueError
        sys.exit(f"\nCannot train: {error}")
    except KeyboardInterrupt:
        sys.exit("\nStopped; the same command goes on after the last whole epoch.")
    except tf.errors.OpError as error:
        if "Collective ops is aborted" not in str(error):
            raise
        sys.exit(f"\n{describe_loss(str(error))}")


def join_machines(addresses, index):
    """Tell TensorFlow by TF_CONFIG which machines train together.

    Args:
        addresses: "host:port" of each with commas between, or None: TF_CONFIG stays as it is.
        index: which of them this one is.

    Raises:
        ValueError: these do not go together.
    """
    if addresses is None and index is None:
        return
    if addresses is None or index is None:
        raise ValueError("--machines and --index belong together")
    if os.environ.get("TF_CONFIG"):
        raise ValueError("TF_CONFIG names the machines already: unset it, or leave out --machines and --index")
    workers = addresses.split(",")
    if wrong := [worker for worker in workers if not re.fullmatch(r".+:\d+", worker)]:
        raise ValueError(f"--machines needs host:port of each machine, such as 10.0.0.1:12345, not '{wrong[0]}'")
    if not 0 <= index < len(workers):
        raise ValueError(f"--index {index} does not fit {len(workers)} machines: they count from 0")
    os.environ["TF_CONFIG"] = json.dumps({"cluster": {"worker": workers}, "task": {"type": "worker", "index": index}})


def train(settings, *more_callbacks):
    """Train the GAN that the settings describe and leave what notebook 4 needs in the run's folder.

    Training that was cut off goes on after its last whole epoch.

    Args:
        settings: `Settings`.
        *more_callbacks: `keras.callbacks.Callback`, your own; where several machines train, on the first one alone.

    Returns:
        The folder; None on all machines but the first.
    """
    is_first = machine_index() == 0
    if len(machines()) > 1:
        print(f"Machine {machine_index()} of {', '.join(machines())}; waiting for the others ...", flush=True)
    answer = signal.signal(signal.SIGINT, signal.SIG_DFL)  # Python cannot answer Ctrl-C while TensorFlow waits
    strategy = choose_strategy()  # before TensorFlow computes anything
    signal.signal(signal.SIGINT, answer)
    keras.utils.set_random_seed(settings.seed)
    if not is_first:
        wait_for_all(strategy)  # in a shared folder, the first machine makes the simulated people for all
    data = load_slices(settings)
    if is_first:
        wait_for_all(strategy)
    gan = build_gan(settings)
    print(f"{describe_setup()}\n{choose_computing(settings)}", flush=True)
    folder = start_run(settings, data) if is_first else None
    epochs_done = restore_everywhere(strategy, gan, folder)
    print(f"{epochs_done} of {settings.epochs} epochs were done", flush=True)
    steps = steps_in_epoch(data.train.images, settings)
    gan.fit(
        training_batches(data.train.images, settings, epochs_done).with_options(sharing_of_batches()),
        initial_epoch=epochs_done,
        epochs=settings.epochs,
        steps_per_epoch=steps,
        # None of the callbacks needs the other machines.
        callbacks=[*training_callbacks(settings, folder, data), *more_callbacks] if is_first else None,
        shuffle=False,
        verbose=0,
    )
    if is_first:
        with written_beside(folder / "generator.keras") as path:
            gan.averaged_generator.save(path)
        history = read_history(folder)
        images_seen = len(history) * steps * settings.batch_size
        finish_run(folder, history["seconds"][-1], images_seen)
        print(f"{len(history)} epochs, {images_seen:,} images. Everything is in {short_path(folder)}.")
    return folder


def restore_everywhere(strategy, gan, folder):
    """`restore_state` on the first machine, which has the folder; the others receive the same by network."""
    epochs_done = restore_state(gan, folder) if folder else 0
    if len(machines()) > 1:
        for variable in named_variables(gan).values():
            variable.assign(from_first(strategy, variable.numpy()))
        epochs_done = int(from_first(strategy, epochs_done))
    return epochs_done


def from_first(strategy, value):
    """The value that the first device has, on every machine."""

    def on_each_device():
        context = tf.distribute.get_replica_context()
        is_first = context.replica_id_in_sync_group == 0
        return context.all_reduce("SUM", tf.where(is_first, value, tf.zeros_like(value)))

    return strategy.experimental_local_results(strategy.run(on_each_device))[0].numpy()


def wait_for_all(strategy):
    """Go on when every machine has come to its `wait_for_all`; at once on one machine."""
    from_first(strategy, 0.0)


def sharing_of_batches():
    """`tf.data.Options` with which several machines, each of which makes every batch, take a part of each."""
    options = tf.data.Options()
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.DATA
    return options


def describe_loss(error):
    """Which machine has gone and what to do, from what TensorFlow says when the machines lose each other."""
    others = {int(number) for number in re.findall(r"/task:(\d+)", error)} - {machine_index()}
    names = ", ".join(f"{number} ({machines()[number]})" for number in sorted(others))
    return (
        f"Machine {names or 'one of the others'} has gone, or cannot be reached. Start the same command on every "
        "machine again: training goes on after the last whole epoch."
    )


if __name__ == "__main__":
    main()
