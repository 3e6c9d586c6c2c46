import imageio.v3 as imageio
import numpy as np
import pytest
from PIL import Image

from gan_utils.figures import PICTURE_WIDTH
from gan_utils.latent_walk import save_latent_walk, walk_latents


def test_walk_passes_its_corners_and_turns_at_constant_speed():
    corners = np.random.default_rng(0).standard_normal((3, 2, 100))
    walk = walk_latents(corners, steps=5)
    assert walk.shape == (15, 2, 100)
    assert walk.dtype == np.float32
    np.testing.assert_allclose(walk[::5], corners, rtol=1e-5)
    directions = walk / np.linalg.norm(walk, axis=-1, keepdims=True)
    turns = (
        (directions * np.roll(directions, -1, axis=0)).sum(axis=-1).reshape(3, 5, 2)
    )  # the last goes back to the first
    np.testing.assert_allclose(turns, turns[:, :1].repeat(5, axis=1), atol=1e-5)


def test_walk_keeps_to_the_lengths_of_its_corners():
    corners = np.random.default_rng(0).standard_normal((2, 100))
    lengths = np.linalg.norm(corners, axis=-1)
    walked = np.linalg.norm(walk_latents(corners, steps=8), axis=-1)
    assert (walked > 0.999 * lengths.min()).all()
    assert (walked < 1.001 * lengths.max()).all()
    assert np.linalg.norm(corners.mean(axis=0)) < 0.8 * lengths.min()


def test_walk_between_equal_corners_stands_still():
    corners = np.ones((2, 1, 50))
    np.testing.assert_allclose(walk_latents(corners, steps=4), 1, rtol=1e-6)


@pytest.mark.parametrize("size", [32, 256])
def test_walk_is_a_gif_without_an_end(tmp_path, size):
    def generator(latents, training):
        assert not training
        return np.clip(latents, -1, 1)[:, :1, None, None] * np.ones((1, size, size, 1))

    latents = np.linspace(-1, 1, 5)[:, None, None].repeat(4, axis=1)
    path = save_latent_walk(tmp_path, generator, latents, milliseconds=200)
    assert path.name == "latent_walk.gif"
    frames = imageio.imread(path)
    assert frames.shape[0] == 5
    assert frames.shape[2] <= PICTURE_WIDTH
    assert frames[:, 5, 5, 0].tolist() == pytest.approx([0, 64, 128, 191, 255], abs=5)
    with Image.open(path) as gif:
        assert gif.info["loop"] == 0
        assert gif.info["duration"] == 200
