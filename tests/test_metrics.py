"""`METRICS` is the one table: what is worked out of images, beside real ones, and when it raises a warning."""

import keras
import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from conftest import OF_IMAGES, blurred, chessboard, stamped
from gan_utils import evaluator as evaluator_module
from gan_utils.evaluator import Evaluator
from gan_utils.features import build_feature_network
from gan_utils.image_statistics import (
    distance_to_training,
    sample_images,
    sample_reference_batches,
    sliced_wasserstein_distance,
    ssim,
)
from gan_utils.metrics import (
    LOSSES,
    METRICS,
    PUBLISHED_SSIM,
    Metric,
    describe_warnings,
    find_warnings,
    maximum_ssim,
    mean_ssim,
    warnings_of_run,
)
from gan_utils.settings import choose_settings

SETTINGS = choose_settings("brain", "smoke", ssim_batches=3)


def evaluator_of(held_out, training, settings=SETTINGS, number=60, projections=32):
    return Evaluator(held_out, training, settings, number, projections)


@pytest.fixture(scope="module")
def evaluator(held_out, training):
    return evaluator_of(held_out, training)


# ---- The values ------------------------------------------------------------------------------------------------


def test_a_perfect_generator_raises_no_warning(good, held_out, training, evaluator):
    values = evaluator(good)
    assert values["swd"] == pytest.approx(values["swd_real"], rel=0.3)
    assert values["ssim"] == pytest.approx(values["ssim_real"], abs=0.1)
    for name in ("diversity_ratio", "high_frequency_ratio", "nearest_ratio"):
        assert values[name] == pytest.approx(1, abs=0.1)
        assert values[f"{name}_real"] == pytest.approx(1, abs=0.1)
        assert 0 < values[f"{name}_spread"] < 0.5
        assert 0 < values[f"{name}_real_spread"] < 0.5
    assert values["nearest_ratio_real"] == 1
    with_spread = [f"{name}{real}" for name in OF_IMAGES if name != "swd" for real in ("", "_real")]
    assert values.keys() == {*with_spread, *(f"{name}_spread" for name in with_spread), "swd", "swd_real"}
    assert find_warnings(values) == []
    assert evaluator(good) == values
    assert evaluator_of(held_out, training)(good) == values
    assert evaluator_of(held_out, training, choose_settings("brain", "smoke", ssim_batches=3, seed=2))(good) != values


def test_only_the_metrics_named_are_worked_out(good, evaluator):
    values = evaluator(good)
    some = evaluator(good, ["nearest_ratio", "swd"])
    assert list(some) == [
        *("nearest_ratio", "nearest_ratio_spread", "nearest_ratio_real", "nearest_ratio_real_spread"),
        *("swd", "swd_real"),
    ]
    assert some == {name: values[name] for name in some}
    assert evaluator(good, []) == {}


def test_diversity_and_high_frequencies_have_training_images_below_the_line(good, training, evaluator):
    values = evaluator(0.5 * good)
    assert values["diversity_ratio"] == pytest.approx(0.5 * evaluator(good)["diversity_ratio"], abs=1e-3)
    assert values["high_frequency_ratio"] == pytest.approx(0.25 * evaluator(good)["high_frequency_ratio"], abs=1e-3)
    own = evaluator(sample_images(training, 60, SETTINGS.seed))
    assert (own["diversity_ratio"], own["high_frequency_ratio"]) == (1, 1)


def test_evaluator_takes_bytes_and_sets_of_any_size(good, held_out, training, evaluator):
    as_bytes = [np.round((images + 1) * 127.5).astype(np.uint8) for images in (good, held_out, training)]
    expected = evaluator(good)
    assert evaluator_of(*as_bytes[1:])(as_bytes[0]) == pytest.approx(expected, rel=0.02, abs=0.02)
    few = evaluator_of(held_out[:5], training)(good)
    assert few["swd_real"] > 2 * expected["swd_real"]  # few images, far apart: hence always beside the real one
    assert few["nearest_ratio"] == pytest.approx(expected["nearest_ratio"], abs=0.1)
    assert evaluator_of(held_out, training, number=8)(good)["swd"] > 1.5 * expected["swd"]


def test_real_images_are_measured_once_for_many_sets(good, held_out, training, noise, monkeypatch):
    evaluator = evaluator_of(held_out, training)
    expected = [evaluator_of(held_out, training)(images) for images in (good, noise)]
    assert evaluator(good) == expected[0]
    measured = []

    def counted(images, *arguments):
        measured.append(images)
        return distance_to_training(images, *arguments)

    monkeypatch.setattr(evaluator_module, "distance_to_training", counted)
    assert evaluator(noise) == expected[1]
    assert [np.shares_memory(images, noise) for images in measured] == [True] * 3  # as it is, and mirrored twice
    known = METRICS["swd"], len(noise), None, None
    evaluator.real_values[known] = {"swd_real": 123.0}  # used, not worked out anew
    assert evaluator(noise) == {**expected[1], "swd_real": 123.0}


def test_real_images_are_as_many_as_the_generated_ones(good, held_out, training):
    """The distance grows as sets get smaller: a few perfect images are to have a value like that beside it."""
    values = evaluator_of(held_out, training)(good[:12], ["swd"])
    all_of_them = evaluator_of(held_out, training)(good, ["swd"])
    assert values["swd"] == pytest.approx(values["swd_real"], rel=0.35)
    assert values["swd_real"] > 1.3 * all_of_them["swd_real"]


def test_a_metric_or_network_that_is_changed_is_worked_out_anew(good, held_out, training, monkeypatch):
    evaluator = evaluator_of(held_out, training)
    before = evaluator(good, ["high_frequency_ratio"])
    entry = METRICS["high_frequency_ratio"]
    doubled = entry._replace(compute=lambda images, real: 2 * np.asarray(entry.compute(images, real)))
    monkeypatch.setitem(METRICS, "high_frequency_ratio", doubled)
    after = evaluator(good, ["high_frequency_ratio"])
    for name in ("high_frequency_ratio", "high_frequency_ratio_real"):
        assert after[name] == pytest.approx(2 * before[name], abs=2e-4)
    found = []
    for seed in (1, 2):
        evaluator.network = build_feature_network(32, seed)
        found.append(evaluator(good, ["frechet_distance"]))
        assert found[-1] == Evaluator(held_out, training, SETTINGS, 60, 32, network=evaluator.network)(
            good, ["frechet_distance"]
        )
    assert found[0] != found[1]


def test_one_image_alone_has_no_two_sample_test(good, thorough):
    values = thorough(good[:1], ["two_sample_accuracy", "frechet_distance"])
    for name in ("two_sample_accuracy", "frechet_distance"):
        assert np.isnan(values[name])
        assert "one image only" in values[f"{name}_reason"]


def test_only_the_generated_images_change_their_values(good, evaluator):
    values, stamps = (evaluator(images) for images in (good, stamped(good)))
    for name in ("swd", "high_frequency_ratio"):
        assert stamps[name] > 1.5 * stamps[f"{name}_real"]
    real = [name for name in values if "_real" in name]
    assert [values[name] for name in real] == [stamps[name] for name in real]


def test_textures_say_at_which_scale_images_are_wrong(good, held_out, training, evaluator):
    textures, chess = evaluator.textures(good), evaluator.textures(chessboard(good))
    real = evaluator.textures(evaluator.training_sample)
    assert list(textures) == list(real) == [32, 16, "mean"]
    values = evaluator(good)
    assert (values["swd"], values["swd_real"]) == pytest.approx((textures["mean"], real["mean"]), abs=1e-4)
    assert chess[32] > 3 * real[32]
    assert chess[16] < 1.5 * real[16]
    by_hand = sliced_wasserstein_distance(good, held_out, SETTINGS.seed, 32)
    assert textures["mean"] == pytest.approx(by_hand["mean"], rel=0.1)  # other patches of the same images


# ---- SSIM, as published ----------------------------------------------------------------------------------------


def test_maximum_ssim_is_the_published_one(good, training, evaluator):
    """Brains: the maximum over all pairs of image k with image k of each reference batch, for each sixteen images."""
    batches = sample_reference_batches(training, SETTINGS)
    pairs = np.array([[ssim(good[k, ..., 0], batch[k % 16, ..., 0]) for k in range(40)] for batch in batches])
    expected = [pairs[:, :16].max(), pairs[:, 16:32].max(), pairs[:, 32:].max()]
    assert maximum_ssim(good[:40], evaluator) == pytest.approx(expected, abs=1e-6)
    assert evaluator.published_ssim is maximum_ssim is PUBLISHED_SSIM["maximum"]
    values = evaluator(good[:40], ["ssim"])
    assert values["ssim"] == pytest.approx(np.mean(expected), abs=1e-4)
    assert values["ssim_real"] == pytest.approx(np.mean(maximum_ssim(evaluator.held_out_sample, evaluator)), abs=1e-4)


def test_mean_ssim_is_the_published_one(good, held_out, training):
    """Knees: the mean over all pairs with the held-out slices; real: training slices in the generated ones' place."""
    settings = choose_settings("knee", "smoke")
    evaluator = evaluator_of(held_out, training, settings)
    expected = [np.mean([ssim(one, other) for other in held_out[..., 0]]) for one in good[:5, ..., 0]]
    assert mean_ssim(good[:5], evaluator) == pytest.approx(expected, abs=1e-6)
    assert len(mean_ssim(training, evaluator)) == 64
    assert evaluator.published_ssim is mean_ssim is PUBLISHED_SSIM["mean"]
    values = evaluator(good[:5], ["ssim"])
    assert values["ssim"] == pytest.approx(np.mean(expected), abs=1e-4)
    real = mean_ssim(sample_images(training, 60, settings.seed), evaluator).mean()
    assert values["ssim_real"] == pytest.approx(real, abs=1e-4)


# ---- Warnings --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spoil", "warning"),
    [
        (lambda good, training: good[:1].repeat(60, axis=0), "Collapse"),
        (lambda good, training: stamped(good), "Lattice"),
        (lambda good, training: chessboard(good), "Lattice"),
        (lambda good, training: training[:60], "Memorising"),
        (lambda good, training: np.full_like(good, np.nan), "NaN"),
    ],
)
def test_every_failure_raises_its_own_warning(spoil, warning, good, training, evaluator):
    found = find_warnings(evaluator(spoil(good, training)))
    assert [text.split()[0].rstrip(":") for text in found] == [warning]


@pytest.mark.parametrize(
    ("training_image", "held_out_image", "unknown"),
    [
        ("black", "blobs", {"diversity_ratio", "high_frequency_ratio"}),
        ("one", "one", {"diversity_ratio", "nearest_ratio"}),
        ("blobs", "alone", set()),
        ("alone", "blobs", {"diversity_ratio"}),
        ("black", "black", {"diversity_ratio", "high_frequency_ratio", "nearest_ratio"}),
    ],
)
def test_what_would_be_divided_by_nothing_is_unknown_with_its_reason(good, training_image, held_out_image, unknown):
    sets = {"black": np.full_like(good, -1), "one": good[:1].repeat(60, axis=0), "blobs": good[30:], "alone": good[:1]}
    evaluator = evaluator_of(sets[held_out_image], sets[training_image])
    values = evaluator(good)
    assert {name for name in OF_IMAGES if np.isnan(values[name])} == unknown
    assert {name for name in OF_IMAGES if f"{name}_reason" in values} == unknown
    assert "one image only" in values["diversity_ratio_real_reason"]
    assert not any(warning.startswith("NaN") for warning in find_warnings(values))
    by_subject = evaluator.by_subject(good, np.arange(len(sets[held_out_image])) % 2)
    assert np.isnan(by_subject["nearest_ratio"]).all() == ("nearest_ratio" in unknown)


def test_blurred_copies_are_not_taken_for_memorised_ones(training, evaluator):
    values = evaluator(blurred(training[:60]))
    assert values["nearest_ratio"] < METRICS["nearest_ratio"].low
    assert find_warnings(values) == []


def test_warnings_from_losses():
    assert find_warnings({"generator_loss": 0.9, "discriminator_loss": 1.2}) == []
    (warning,) = find_warnings({"generator_loss": 9.0, "discriminator_loss": 0.01})
    assert warning.startswith("The discriminator has won")
    for broken in (float("nan"), float("inf")):
        (warning,) = find_warnings({"generator_loss": broken, "discriminator_loss": 0.01})
        assert warning.startswith("NaN")
    assert find_warnings({}) == []


def make_history(**columns):
    columns = {"epoch": range(1, 6), "generator_loss": [0.8] * 5, "discriminator_loss": [1.2] * 5} | columns
    return np.rec.fromarrays([np.array(column, float) for column in columns.values()], names=list(columns))


def raised(history):
    """{the first words of a warning: the epochs that raised it}."""
    return {warning.split(":")[0]: epochs for warning, epochs in warnings_of_run(history).items()}


def test_a_loss_of_another_scale_raises_no_warning():
    assert find_warnings({"generator_loss": 2.0, "discriminator_loss": -3.0}) == []  # Wasserstein


def test_metrics_raise_warnings_from_epoch_3_on_and_only_where_they_are_there():
    nan = float("nan")
    assert raised(make_history(diversity_ratio=[0.4, 0.4, 0.4, nan, 0.4])) == {"Collapse": [3, 5]}
    assert raised(make_history(high_frequency_ratio=[5, nan, 1, nan, 3])) == {"Lattice": [5]}
    assert raised(make_history(nearest_ratio=[0.2, nan, nan, nan, 0.2])) == {"Memorising": [5]}


def test_losses_and_broken_images_raise_warnings_in_every_epoch():
    assert raised(make_history(discriminator_loss=[0.01, 1, 1, 0.01, 0.01])) == {"The discriminator has won": [1, 4, 5]}
    assert raised(make_history(ssim=[0.5, 0.5, 0.5, 0.5, float("nan")])) == {"NaN": [5]}


def test_warnings_are_described_with_their_epochs():
    history = make_history(discriminator_loss=[1, 1, 0.01, 0.01, 0.01], diversity_ratio=[1, 1, 1, 1, 0.1])
    first, won, collapse = describe_warnings(history).splitlines()
    assert first == "Warnings in 5 epochs:"
    assert won.startswith("- from epoch 3 on, in 3 of 5: The discriminator has won")
    assert collapse.startswith("- from epoch 5 on, in 1 of 5: Collapse: the generated images are nearly all alike; try")
    assert describe_warnings(make_history()) == "Warnings in 5 epochs: none"


def test_every_limit_has_its_words():
    for metric in {**LOSSES, **METRICS}.values():
        assert np.isfinite(metric.low) == bool(metric.below)
        assert np.isfinite(metric.high) == bool(metric.above)


# ---- A metric of one's own -------------------------------------------------------------------------------------


@pytest.fixture
def brightness(monkeypatch):
    """The mean brightness of each image, by that of the training images; added while the program runs."""

    def mean_brightness(images):
        return images.mean(axis=(1, 2, 3)) + 1

    metric = Metric(
        "brightness",
        compute=lambda images, real: mean_brightness(images) / real.mean(mean_brightness, "training_sample"),
        target=1,
        low=0.5,
        below="Dark: turn on the light.",
        high=1.5,
        above="Bright: turn it off.",
    )
    monkeypatch.setitem(METRICS, "brightness", metric)
    return metric


def test_a_metric_that_is_added_is_evaluated(brightness, good, training, held_out, evaluator):
    values = evaluator(good)
    shades = [images.mean(axis=(1, 2, 3)) + 1 for images in (good, held_out, evaluator.training_sample)]
    generated, real = (shade / shades[2].mean() for shade in shades[:2])
    assert values["brightness"] == pytest.approx(generated.mean(), abs=1e-4)
    assert values["brightness_spread"] == pytest.approx(generated.std(), abs=1e-4)
    assert values["brightness_real"] == pytest.approx(real.mean(), abs=1e-4)
    assert values["brightness_real_spread"] == pytest.approx(real.std(), abs=1e-4)
    subjects = np.repeat([1, 2], 30)
    by_subject = evaluator.by_subject(good, subjects)["brightness"]
    expected = [shades[0].mean() / shades[1][subjects == subject].mean() for subject in (1, 2)]
    assert by_subject == pytest.approx(expected, abs=1e-3)


def test_a_metric_that_is_added_raises_warnings(brightness, good, evaluator):
    dark, bright = (np.clip(good + shift, -1, 1) for shift in (-1, 1))
    assert find_warnings(evaluator(dark, ["brightness"])) == ["Dark: turn on the light."]
    assert find_warnings(evaluator(bright, ["brightness"])) == ["Bright: turn it off."]
    assert find_warnings(evaluator(good, ["brightness"])) == []
    history = make_history(brightness=[0.1, float("nan"), 0.1, 1.0, 2.0])
    assert warnings_of_run(history) == {"Dark: turn on the light.": [3], "Bright: turn it off.": [5]}


# ---- One subject at a time -------------------------------------------------------------------------------------


NAMES = ["subject", "swd", "swd_real", "high_frequency_ratio", "nearest_ratio"]


def make_subjects(subjects, slices, seed):
    """Slices of smooth random subjects, each with little changes of the same blobs: (images, number of the subject)."""
    rng = np.random.default_rng(seed)
    blobs = gaussian_filter(rng.standard_normal((subjects, 1, 32, 32, 1)), (0, 0, 4, 4, 0))
    changes = gaussian_filter(rng.standard_normal((subjects, slices, 32, 32, 1)), (0, 0, 1, 1, 0))
    images = np.tanh(8 * blobs + 0.3 * changes).astype(np.float32)
    return images.reshape(-1, 32, 32, 1), np.repeat(10 * np.arange(1, subjects + 1), slices)


@pytest.fixture(scope="module")
def training_subjects():
    return make_subjects(12, 8, seed=0)[0]


@pytest.fixture(scope="module")
def other_subjects():
    return make_subjects(30, 2, seed=1)[0]


def by_subject(generated, held_out, subjects, training):
    return evaluator_of(held_out, training, projections=16).by_subject(generated, subjects)


def test_every_subject_has_a_value(other_subjects, training_subjects):
    held_out, subjects = make_subjects(4, 8, seed=2)
    values = by_subject(other_subjects, held_out, subjects, training_subjects)
    assert list(values) == NAMES
    assert values["subject"].tolist() == [10, 20, 30, 40]
    assert {each.shape for each in values.values()} == {(4,)}
    assert values["swd"].mean() == pytest.approx(values["swd_real"].mean(), rel=0.3)
    assert values["nearest_ratio"].mean() == pytest.approx(1, abs=0.15)
    order = np.random.default_rng(0).permutation(len(subjects))
    shuffled = by_subject(other_subjects, held_out[order], subjects[order], training_subjects)
    assert shuffled["nearest_ratio"] == pytest.approx(values["nearest_ratio"])


def test_one_subject_alone_is_evaluated_as_a_whole_set(other_subjects, training_subjects):
    held_out, subjects = make_subjects(1, 8, seed=2)
    values = by_subject(other_subjects, held_out, subjects, training_subjects)
    expected = evaluator_of(held_out, training_subjects, projections=16)(other_subjects)
    for name in ("swd", "swd_real", "nearest_ratio"):
        assert values[name] == pytest.approx([expected[name]], abs=1e-4)
    ratio = expected["high_frequency_ratio"] / expected["high_frequency_ratio_real"]
    assert values["high_frequency_ratio"] == pytest.approx([ratio], abs=1e-4)


def test_evaluation_by_subject_leaves_the_evaluator_as_it_was(other_subjects, training_subjects):
    held_out, subjects = make_subjects(3, 6, seed=2)
    evaluator = evaluator_of(held_out, training_subjects, projections=16)
    before = evaluator(other_subjects)
    evaluator.by_subject(other_subjects, subjects)
    assert evaluator(other_subjects) == before
    fresh = evaluator_of(held_out, training_subjects, projections=16)
    assert fresh.by_subject(other_subjects, subjects)["swd"].shape == (3,)
    assert fresh(other_subjects) == before


def test_copies_and_noise_are_seen_by_every_subject(training_subjects):
    held_out, subjects = make_subjects(3, 6, seed=2)
    values = by_subject(training_subjects, held_out, subjects, training_subjects)
    assert (values["nearest_ratio"] < 0.01).all()
    noise = np.random.default_rng(0).uniform(-1, 1, (20, 32, 32, 1)).astype(np.float32)
    values = by_subject(noise, held_out, subjects, training_subjects)
    assert (values["nearest_ratio"] > 1.1).all()
    assert (values["high_frequency_ratio"] > 2).all()
    assert (values["swd"] > 1.1 * values["swd_real"]).all()


# ---- Metrics that need a network -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def thorough(held_out, training):
    """An evaluator with what all metrics need; its discriminator finds bright images real."""
    images = keras.Input((32, 32, 1))
    discriminator = keras.Model(images, keras.layers.GlobalAveragePooling2D()(images))
    network = build_feature_network(32, seed=9)
    return Evaluator(held_out, training, SETTINGS, 60, 32, network=network, discriminator=discriminator)


BY_NETWORK = [name for name, metric in METRICS.items() if metric.needs == "network" and name != "two_sample_accuracy"]


def test_what_needs_a_network_is_worked_out_where_there_is_one(evaluator, thorough):
    assert thorough.names() == list(METRICS)
    assert evaluator.names() == list(OF_IMAGES)


def test_a_perfect_generator_has_the_values_of_real_images(good, thorough):
    values = thorough(good, BY_NETWORK)
    for name in ("frechet_distance", "random_frechet_distance"):
        assert values[name] == pytest.approx(values[f"{name}_real"], rel=0.15)
    for name in ("kernel_distance", "random_kernel_distance"):
        assert abs(values[name] - values[f"{name}_real"]) < values[f"{name}_spread"] + values[f"{name}_real_spread"]
    assert values["frechet_ratio"] == pytest.approx(1, abs=0.15)
    assert values["frechet_ratio_real"] == 1
    assert values["density"] == pytest.approx(values["density_real"], abs=0.25)
    assert values["coverage"] == pytest.approx(values["coverage_real"], abs=0.1)
    assert all(values[f"{name}_spread"] > 0 for name in BY_NETWORK if name != "coverage")
    assert thorough(good, BY_NETWORK) == values


@pytest.mark.parametrize("spoil", [lambda images: np.repeat(images[:2], 30, axis=0), lambda images: 0.5 * images])
def test_what_even_random_features_see(spoil, good, thorough):
    values = thorough(spoil(good), BY_NETWORK)
    for name in ("frechet_distance", "kernel_distance", "random_frechet_distance", "random_kernel_distance"):
        assert values[name] > values[f"{name}_real"] + 3 * values[f"{name}_real_spread"]
    assert values["frechet_ratio"] > 1.5
    assert values["coverage"] < 0.8 * values["coverage_real"]


def test_as_many_images_count_of_one_set_as_of_the_other(good, held_out, training, thorough):
    assert [len(features) for features in thorough.equally_many(good[:20])] == [20, 20]
    few = Evaluator(held_out[:12], training, SETTINGS, 60, 32, network=thorough.network)
    assert [len(features) for features in few.equally_many(good)] == [12, 12]
    assert few(good, ["coverage"]).keys() == {f"coverage{real}{of}" for real in ("", "_real") for of in ("", "_spread")}


def test_two_sample_test_asks_about_new_images(good, held_out, training, thorough, monkeypatch):
    asked = []
    monkeypatch.setattr(evaluator_module, "two_sample_test", lambda *sets: asked.append(sets) or np.ones(4))
    evaluator = Evaluator(held_out[:20], training, SETTINGS, 60, 32, network=thorough.network)
    evaluator(good, ["two_sample_accuracy"])
    of_real, of_generated = asked

    def names(images):
        return {image.tobytes() for image in images}

    known, others, new, new_real, _ = of_generated
    np.testing.assert_array_equal(np.concatenate([new, known]), good)
    assert (len(known), len(others), len(new), len(new_real)) == (40, 40, 20, 20)
    assert names(new_real) == names(held_out[:20])
    assert names(others) <= names(training[len(training) // 2 :])
    known, others, new, new_real, _ = of_real  # of other subjects, which training images are sorted by
    assert names(known) | names(new) <= names(training[: len(training) // 2])
    assert len(names(known) | names(others) | names(new)) == len(known) + len(others) + len(new)


def test_two_sample_test_of_equal_sets_and_of_a_lattice(good, thorough):
    values = thorough(stamped(good), ["two_sample_accuracy"])
    assert values["two_sample_accuracy"] > 0.65
    assert abs(values["two_sample_accuracy_real"] - 0.5) < 4 * 0.5 / np.sqrt(60)


def test_discriminator_gap_is_the_share_of_training_images_that_it_finds_more_real(good, held_out, training, thorough):
    values = thorough(0.5 * good - 0.4, ["discriminator_gap"])  # darker than any training image is in the mean
    assert values["discriminator_gap"] > 0.95
    brightness = [images.mean(axis=(1, 2, 3)) for images in (thorough.training_sample, thorough.held_out_sample)]
    expected = (brightness[0][:, None] > brightness[1]).mean()
    assert values["discriminator_gap_real"] == pytest.approx(expected, abs=1e-3)


def test_discriminator_gap_of_a_discriminator_that_answers_for_patches(good, held_out, training, thorough):
    def for_patches(images):
        """One answer for the upper half and one for the lower."""
        halves = np.split(np.asarray(images), 2, axis=1)
        return np.stack([half.mean(axis=(1, 2)) for half in halves], axis=1)[..., None]

    evaluator = Evaluator(held_out, training, SETTINGS, 60, 32, discriminator=for_patches)
    lower = np.concatenate([good[:, : good.shape[1] // 2], np.full_like(good[:, good.shape[1] // 2 :], -1)], axis=1)
    found = [evaluator(images, ["discriminator_gap"])["discriminator_gap"] for images in (good, lower)]
    assert found[1] > max(found[0], 0.95)


def test_real_value_follows_another_discriminator(good, held_out, training, thorough):
    evaluator = Evaluator(held_out, training, SETTINGS, 60, 32, discriminator=thorough.discriminator)
    first = evaluator(good, ["discriminator_gap"])["discriminator_gap_real"]
    evaluator.discriminator = lambda images: -np.asarray(thorough.discriminator(images))
    second = evaluator(good, ["discriminator_gap"])["discriminator_gap_real"]
    assert second == pytest.approx(1 - first, abs=1e-3)


def test_mirrored_training_images_are_copies(training, evaluator):
    for mirrored in (training[:60, ::-1], training[:60, :, ::-1]):
        assert evaluator(mirrored, ["nearest_ratio"])["nearest_ratio"] < 0.01


@pytest.mark.parametrize("number", [1, 2, 3, 5])
def test_a_few_held_out_images_raise_no_warning(good, held_out, training, thorough, number):
    values = Evaluator(held_out[:number], training, SETTINGS, 60, 32, network=thorough.network)(good, BY_NETWORK)
    assert np.isnan(values["frechet_distance"]) == (number == 1)
    assert np.isfinite(values["coverage"])
