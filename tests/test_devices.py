import keras
import numpy as np
import pytest

from gan_utils import devices
from gan_utils.dcgan import build_gan
from gan_utils.devices import choose_computing, processor_has_bfloat16, usable_cores
from gan_utils.settings import choose_settings


@pytest.mark.parametrize(("cores", "words"), [({3}, "1 core"), ({0, 2}, "2 cores")])
def test_only_cores_that_the_process_may_use_are_counted(cores, words, monkeypatch):
    monkeypatch.setattr("os.sched_getaffinity", lambda process: cores, raising=False)
    assert usable_cores() == words


@pytest.mark.parametrize(
    ("flags", "answer"), [("avx2 avx512_bf16 fma", True), ("amx_bf16", True), ("avx512f avx512_vnni", False)]
)
def test_processors_are_asked_for_bfloat16(flags, answer, tmp_path):
    (tmp_path / "cpuinfo").write_text(f"model name\t: a processor\nflags\t\t: fpu {flags} sse\n")
    assert processor_has_bfloat16(tmp_path / "cpuinfo") == answer
    assert not processor_has_bfloat16(tmp_path / "missing")


@pytest.mark.parametrize(("has_it", "size", "precision"), [
    (True, 128, "mixed_bfloat16"), (True, 64, "float32"), (False, 128, "float32")
])  # fmt: skip
def test_precision_follows_the_processor_and_the_image_size(has_it, size, precision, monkeypatch):
    monkeypatch.setattr(devices, "processor_has_bfloat16", lambda: has_it)
    monkeypatch.setattr(devices, "graphics_cards", lambda: [])
    computing = choose_computing(choose_settings("knee", "quick", image_size=size))
    assert (computing.precision, computing.jit_compile, computing.steps_per_execution) == (precision, False, 1)
    assert str(computing).startswith(f"Computing in {precision}, without XLA, 1 step a call, on CPU")


@pytest.mark.parametrize(("capability", "precision"), [((8, 0), "mixed_bfloat16"), ((7, 5), "float32")])
def test_graphics_cards_compute_in_bfloat16_from_ampere_on(capability, precision, monkeypatch):
    details = {"device_name": "a card", "compute_capability": capability}
    monkeypatch.setattr(devices, "graphics_cards", lambda: ["GPU:0"])
    monkeypatch.setattr("tensorflow.config.experimental.get_device_details", lambda card: details)
    computing = choose_computing(choose_settings("knee", "full"))
    assert str(computing) == f"Computing in {precision}, without XLA, 8 steps a call, on a card"


def test_what_settings_say_is_used_as_it_is():
    computing = choose_computing(
        choose_settings("brain", "full", precision="float32", jit_compile=True, steps_per_execution=5)
    )
    assert (computing.precision, computing.jit_compile, computing.steps_per_execution) == ("float32", True, 5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"precision": "float16"}, "precision 'float16' is not known; choose one of: float32, mixed_bfloat16"),
        ({"steps_per_execution": 0}, "steps_per_execution 0 is too small"),
        ({"jit_compile": "yes"}, "jit_compile 'yes' does not fit"),
    ],
)
def test_impossible_choices_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        choose_settings("brain", "quick", **change)


@pytest.mark.parametrize("recipe", ["baseline", "improved"])
@pytest.mark.parametrize("change", [
    {"precision": "mixed_bfloat16"}, {"steps_per_execution": 3}, {"jit_compile": True}
], ids=str)  # fmt: skip
def test_every_choice_trains_to_nearly_the_same_losses(recipe, change):
    """The draws differ with XLA and, in bfloat16, the rounding; the networks and the losses stay."""
    images = np.random.default_rng(0).uniform(-1, 1, (48, 32, 32, 1)).astype("float32")
    losses = {}
    for name, changes in (("plain", {"precision": "float32"}), ("changed", {"precision": "float32"} | change)):
        keras.utils.set_random_seed(1)
        gan = build_gan(choose_settings("brain", "smoke", recipe, "simulated", batch_size=8, **changes))
        history = gan.fit(images, batch_size=8, epochs=1, shuffle=False, verbose=0).history
        losses[name] = history["generator_loss"][0], history["discriminator_loss"][0]
        assert gan(np.zeros((1, gan.latent_dim), "float32")).dtype == "float32"
        assert all(weight.dtype == "float32" for weight in gan.generator.weights)
    assert keras.config.dtype_policy().name == "float32"
    np.testing.assert_allclose(losses["changed"], losses["plain"], rtol=0.1)
