"""The published networks once more in PyTorch, layer by layer as in gan_utils/networks.py."""

from torch import nn

from gan_utils.settings import count_doublings


class Reshape(nn.Module):
    def __init__(self, *shape):
        super().__init__()
        self.shape = shape

    def forward(self, x):
        return x.reshape(-1, *self.shape)


class DoubleSize(nn.ConvTranspose2d):
    """Transposed convolution of stride 2 that gives exactly twice the size, for any kernel size."""

    def __init__(self, channels_in, channels, kernel_size, **options):
        padding = (kernel_size - 1) // 2
        super().__init__(
            channels_in, channels, kernel_size, 2, padding, output_padding=2 + 2 * padding - kernel_size, **options
        )


def build_pair(settings):
    """(generator, discriminator) with as many weights as those of gan_utils."""
    if settings.experiment == "brain":
        return brain_generator(settings), brain_discriminator(settings)
    return knee_generator(settings), knee_discriminator(settings)


def brain_generator(s):
    doublings = count_doublings(s.generator_input_dim, s.image_size)
    features = 4 * s.filters
    blocks = [
        nn.Linear(s.latent_dim, s.generator_input_dim**2 * features, bias=False),
        nn.BatchNorm1d(s.generator_input_dim**2 * features, eps=1e-3),
        nn.LeakyReLU(0.3),
        Reshape(features, s.generator_input_dim, s.generator_input_dim),
    ]
    for channels in [2 * s.filters] * max(doublings - 2, 0) + [s.filters] * (doublings > 1):
        blocks += [DoubleSize(features, channels, s.kernel_size, bias=False), nn.BatchNorm2d(channels, eps=1e-3)]
        blocks += [nn.LeakyReLU(0.3)]
        features = channels
    return nn.Sequential(*blocks, DoubleSize(features, 1, s.kernel_size, bias=False), nn.Tanh())


def brain_discriminator(s):
    blocks, features, size = [], 1, s.image_size
    for channels, dropout in ((s.filters, 0.4), (2 * s.filters, 0.2), (4 * s.filters, 0.2)):
        blocks += [nn.Conv2d(features, channels, s.kernel_size, 2, s.kernel_size // 2), nn.LeakyReLU(0.3)]
        blocks += [nn.Dropout(dropout)]
        features, size = channels, -(-size // 2)
    return nn.Sequential(*blocks, nn.Flatten(), nn.Linear(features * size**2, 1))


def knee_generator(s):
    doublings = count_doublings(s.generator_input_dim, s.image_size)
    features = 4 * s.filters
    blocks = [nn.Linear(s.latent_dim, s.generator_input_dim**2 * features), nn.ReLU()]
    blocks += [Reshape(features, s.generator_input_dim, s.generator_input_dim)]
    for channels in [2 * s.filters] * (doublings - 1) + [s.filters]:
        blocks += [DoubleSize(features, channels, s.kernel_size), nn.ReLU()]
        features = channels
    return nn.Sequential(*blocks, nn.Conv2d(features, 1, 3, padding=1))


def knee_discriminator(s):
    blocks, features = [], 1
    for channels in (s.filters, 2 * s.filters, 4 * s.filters):
        blocks += [nn.Conv2d(features, channels, 3, padding=1), nn.MaxPool2d(2), nn.LeakyReLU(0.2)]
        features = channels
    hidden = nn.Linear(features * (s.image_size // 8) ** 2, 256)
    return nn.Sequential(*blocks, nn.Flatten(), hidden, nn.LeakyReLU(0.2), nn.Linear(256, 1))
