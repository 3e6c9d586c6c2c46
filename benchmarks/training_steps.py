"""One training step of the same networks, by gan_utils, by a plain GradientTape loop, and by PyTorch.

The same batch, number format and order of updates for all: brains learn from one pass, knees in turn.
"""

import numpy as np

from gan_utils.settings import choose_settings

STEPS = {64: 40, 128: 10, 256: 4}  # in a round: seconds, not minutes


def settings_of(experiment, image_size, recipe="baseline", **changes):
    """Published networks of `quick` at 64 pixels and of `full` above; the same batch for all."""
    profile = "quick" if image_size == 64 else "full"
    start = {} if recipe == "improved" or image_size != 128 or experiment != "brain" else {"generator_input_dim": 16}
    return choose_settings(
        experiment, profile, recipe, "phantoms", **{"image_size": image_size, "batch_size": 16, **start, **changes}
    )


def real_images(settings):
    """float32 (batch, size, size, 1), -1..1: as fast to learn from as real ones, and always the same."""
    shape = settings.batch_size, settings.image_size, settings.image_size, 1
    return np.random.default_rng(1).uniform(-1, 1, shape).astype("float32")


def by_gan_utils(plain=False, **choice):
    """`fit()` on one batch that is held in memory; plain: Keras' own Adam and dropout, without gan_utils/fast.py."""
    import keras
    import tensorflow as tf

    from gan_utils import fast
    from gan_utils.gan import build_gan

    settings = settings_of(**choice)
    keras.utils.set_random_seed(1)
    if plain:
        fast.speed_up = lambda model: model
    model = build_gan(settings)
    options = tf.data.Options()
    options.autotune.enabled = False  # as in data.training_batches
    batches = tf.data.Dataset.from_tensors(real_images(settings)).repeat().with_options(options)
    steps = STEPS[settings.image_size]

    def work():
        model.fit(batches, steps_per_epoch=steps, shuffle=False, verbose=0)

    return work, {"images": steps * settings.batch_size, "parameters": parameters(model.generator, model.discriminator)}


def by_gradient_tape(**choice):
    """A plain loop over a `tf.function`, as in TensorFlow's DCGAN tutorial, in the experiment's order of updates."""
    import keras
    import tensorflow as tf

    from gan_utils.fast import choose_computing, precision
    from gan_utils.networks import build_pair

    settings = settings_of(**choice)
    keras.utils.set_random_seed(1)
    with precision(choose_computing(settings).precision):
        generator, discriminator = build_pair(settings)
    generator_optimizer, discriminator_optimizer = (
        keras.optimizers.Adam(rate, beta_1=settings.beta_1)
        for rate in (settings.generator_learning_rate, settings.discriminator_learning_rate)
    )
    cross_entropy = keras.losses.BinaryCrossentropy(from_logits=True)

    def generator_loss(fake_output):
        return cross_entropy(tf.ones_like(fake_output), fake_output)

    def discriminator_loss(real_output, fake_output):
        real_loss = cross_entropy(tf.ones_like(real_output), real_output)
        return real_loss + cross_entropy(tf.zeros_like(fake_output), fake_output)

    def improve(tape, loss, network, optimizer):
        gradients = tape.gradient(loss, network.trainable_variables)
        optimizer.apply_gradients(zip(gradients, network.trainable_variables, strict=True))

    @tf.function
    def simultaneous_step(images):
        noise = tf.random.normal([settings.batch_size, settings.latent_dim])
        with tf.GradientTape() as generator_tape, tf.GradientTape() as discriminator_tape:
            generated = generator(noise, training=True)
            real_output = discriminator(images, training=True)
            fake_output = discriminator(generated, training=True)
            loss_of_generator = generator_loss(fake_output)
            loss_of_discriminator = discriminator_loss(real_output, fake_output)
        improve(generator_tape, loss_of_generator, generator, generator_optimizer)
        improve(discriminator_tape, loss_of_discriminator, discriminator, discriminator_optimizer)

    @tf.function
    def alternating_step(images):
        noise = tf.random.normal([settings.batch_size, settings.latent_dim])
        with tf.GradientTape() as discriminator_tape:
            fake_output = discriminator(generator(noise, training=True), training=True)
            loss_of_discriminator = discriminator_loss(discriminator(images, training=True), fake_output)
        improve(discriminator_tape, loss_of_discriminator, discriminator, discriminator_optimizer)
        with tf.GradientTape() as generator_tape:
            loss_of_generator = generator_loss(discriminator(generator(noise, training=True), training=True))
        improve(generator_tape, loss_of_generator, generator, generator_optimizer)

    train_step = simultaneous_step if settings.updates == "simultaneous" else alternating_step
    images, steps = tf.constant(real_images(settings)), STEPS[settings.image_size]

    def work():
        for _ in range(steps):
            train_step(images)

    return work, {"images": steps * settings.batch_size, "parameters": parameters(generator, discriminator)}


def by_pytorch(compiled, **choice):
    """The same networks in PyTorch, channels last; eager or through torch.compile."""
    import torch
    import torch._functorch.config
    from torch.nn.functional import binary_cross_entropy_with_logits as cross_entropy

    from benchmarks.pytorch_networks import build_pair

    torch._functorch.config.donated_buffer = False  # two losses share one pass, which compiled code else refuses
    settings = settings_of(**choice)
    torch.manual_seed(1)
    networks = [network.to(memory_format=torch.channels_last) for network in build_pair(settings)]
    bfloat16 = settings.precision == "mixed_bfloat16"

    def ready(network):
        network = torch.compile(network) if compiled else network

        def forward(values):
            with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
                return network(values)

        return lambda values: forward(values).float()

    generator, discriminator = map(ready, networks)
    rates = settings.generator_learning_rate, settings.discriminator_learning_rate
    generator_optimizer, discriminator_optimizer = (
        torch.optim.Adam(network.parameters(), rate, betas=(settings.beta_1, 0.999), eps=1e-7, fused=True)
        for network, rate in zip(networks, rates, strict=True)
    )
    images = torch.from_numpy(real_images(settings).transpose(0, 3, 1, 2).copy())
    images = images.to(memory_format=torch.channels_last)
    ones, zeros = torch.ones(settings.batch_size, 1), torch.zeros(settings.batch_size, 1)
    steps = STEPS[settings.image_size]

    def loss_of_discriminator(real_output, fake_output):
        return cross_entropy(real_output, ones) + cross_entropy(fake_output, zeros)

    def gradients(loss, network, **options):
        for parameter, gradient in zip(
            network.parameters(), torch.autograd.grad(loss, list(network.parameters()), **options), strict=True
        ):
            parameter.grad = gradient

    def simultaneous_step():
        generated = generator(torch.randn(settings.batch_size, settings.latent_dim))
        real_output, fake_output = discriminator(images), discriminator(generated)
        gradients(cross_entropy(fake_output, ones), networks[0], retain_graph=True)
        gradients(loss_of_discriminator(real_output, fake_output), networks[1])
        generator_optimizer.step()
        discriminator_optimizer.step()

    def alternating_step():
        generated = generator(torch.randn(settings.batch_size, settings.latent_dim))
        fake_output = discriminator(generated.detach())
        gradients(loss_of_discriminator(discriminator(images), fake_output), networks[1])
        discriminator_optimizer.step()
        gradients(cross_entropy(discriminator(generated), ones), networks[0])
        generator_optimizer.step()

    train_step = simultaneous_step if settings.updates == "simultaneous" else alternating_step

    def work():
        for _ in range(steps):
            train_step()

    count = sum(parameter.numel() for network in networks for parameter in network.parameters())
    return work, {"images": steps * settings.batch_size, "parameters": count}


CONTESTANTS = {
    "gan_utils": ("training_steps:by_gan_utils", {}),
    "gan_utils, plain": ("training_steps:by_gan_utils", {"plain": True}),
    "GradientTape loop": ("training_steps:by_gradient_tape", {}),
    "PyTorch": ("training_steps:by_pytorch", {"compiled": False}),
    "PyTorch, compiled": ("training_steps:by_pytorch", {"compiled": True}),
}


def all_contestants(**choice):
    """Every contestant at the same networks, as `compare` takes them."""
    return {name: (function, {**options, **choice}) for name, (function, options) in CONTESTANTS.items()}


def parameters(*networks):
    """Trainable weights; PyTorch counts the others apart."""
    return sum(int(np.prod(weight.shape)) for network in networks for weight in network.trainable_variables)
