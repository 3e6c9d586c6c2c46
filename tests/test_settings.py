import dataclasses
import re

import pytest

from gan_utils import PROJECT_FOLDER, project_path, short_path
from gan_utils.data import DATASETS, PHANTOMS
from gan_utils.settings import IMPROVED, Settings, choose_settings, read_changes, read_choices, read_settings_file

CHOSEN_BY_NAME = ("experiment", "profile", "recipe", "data")
RUNS = [(experiment, profile) for experiment, dataset in DATASETS.items() for profile in dataset.profiles]


def test_full_profile_is_the_published_system():
    settings = choose_settings("brain", "full")
    assert (settings.image_size, settings.batch_size, settings.epochs) == (256, 16, 50)
    assert (settings.generator_learning_rate, settings.discriminator_learning_rate, settings.beta_1) == (
        1e-4,
        1e-4,
        0.9,
    )
    assert settings.steps_per_epoch is None
    assert (settings.networks, settings.updates) == ("brain", "simultaneous")


def test_full_knee_profile_is_the_published_system():
    settings = choose_settings("knee", "full")
    assert (settings.image_size, settings.batch_size, settings.epochs, settings.latent_dim) == (128, 128, 35, 256)
    assert (settings.generator_learning_rate, settings.discriminator_learning_rate, settings.beta_1) == (
        2e-4,
        2e-4,
        0.5,
    )
    assert (settings.generator_input_dim, settings.networks, settings.updates) == (4, "knee", "alternating")


@pytest.mark.parametrize(("experiment", "profile"), RUNS)
def test_improved_recipe_is_laid_over_every_profile(experiment, profile):
    settings = choose_settings(experiment, profile, "improved")
    expected = IMPROVED | DATASETS[experiment].improved[profile]
    assert {name: getattr(settings, name) for name in expected} == expected
    assert settings.image_size == choose_settings(experiment, profile).image_size
    assert choose_settings(experiment, profile, "improved", ema_decay=0.5).ema_decay == 0.5


def test_penalty_follows_image_size_and_batch_of_the_improved_recipe_alone():
    improved = choose_settings("brain", "quick", "improved")
    assert improved.penalty_weight == 4
    assert choose_settings("brain", "full", "improved", batch_size=16).penalty_weight == 2 * improved.penalty_weight
    assert choose_settings("brain", "quick", "improved", penalty_weight=0.0).penalty_weight == 0
    assert choose_settings("brain", "quick").penalty_weight == 0


@pytest.mark.parametrize("experiment", DATASETS)
def test_tables_name_settings_that_exist(experiment):
    """A field that is none would be noticed only by whoever chooses that profile."""
    dataset, fields = DATASETS[experiment], {field.name for field in dataclasses.fields(Settings)}
    tables = [IMPROVED, dataset.published, *dataset.profiles.values(), *dataset.improved.values()]
    assert set().union(*tables) <= fields
    assert dataset.profiles.keys() == dataset.improved.keys()


def test_phantoms_can_be_asked_for_by_their_old_name():
    assert choose_settings(data="simulated").data == choose_settings(data=PHANTOMS).data == "phantoms"
    assert choose_settings(data="").data is choose_settings().data is None


def test_changes_are_read_as_typed_on_the_command_line():
    text = "epochs=3 generator_learning_rate=1e-4 debug=True steps_per_epoch=None output='my runs' updates=alternating"
    changes = read_changes(text)
    assert changes == {
        "epochs": 3,
        "generator_learning_rate": 1e-4,
        "debug": True,
        "steps_per_epoch": None,
        "output": "my runs",
        "updates": "alternating",
    }
    assert choose_settings("knee", "smoke", **changes).run_folder == PROJECT_FOLDER / "my runs" / "knee-baseline-smoke"
    assert read_changes(None) == read_changes("") == {}
    assert read_changes(r"output=C:\my\runs") == {"output": r"C:\my\runs"}
    assert read_changes("output=2024") == {"output": "2024"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("epochs = 3", "'epochs' is not of the form name=value"),
        ("output=", "'output=' is not of the form"),
        ("=3", "'=3' is not of the form"),
        ("output='my runs", "No closing quotation"),
        ("data=elsewhere", "choose the data by DATA="),
        ("profile=full", "choose the profile by PROFILE="),
    ],
)
def test_changes_that_cannot_be_read_are_refused(text, expected):
    with pytest.raises(ValueError, match=f"SETTINGS {text}: .*{expected}"):
        read_changes(text)


@pytest.fixture
def settings_file(tmp_path, monkeypatch):
    """A settings.toml of the test's own, and no choices in the environment."""
    path = tmp_path / "settings.toml"
    monkeypatch.setattr("gan_utils.settings.SETTINGS_FILE", path)
    for name in ("EXPERIMENT", "PROFILE", "RECIPE", "DATA", "SETTINGS"):
        monkeypatch.delenv(f"GAN_{name}", raising=False)
    return path


def test_all_notebooks_read_one_file_and_the_environment_wins(settings_file, monkeypatch):
    assert read_choices() == {}
    settings_file.write_text('experiment = "knee"\nepochs = 7\nbatch_size = 32  # half as many steps\n')
    assert read_choices() == {"experiment": "knee", "epochs": 7, "batch_size": 32}
    assert read_choices(epochs=9)["epochs"] == 9
    monkeypatch.setenv("GAN_EXPERIMENT", "brain")
    monkeypatch.setenv("GAN_SETTINGS", "epochs=8")
    assert read_choices() == {"experiment": "brain", "epochs": 8, "batch_size": 32}
    assert choose_settings(**read_choices(seed=2)).seed == 2


def test_a_settings_file_may_begin_with_a_byte_order_mark(settings_file):
    settings_file.write_text('experiment = "knee"\n', encoding="utf-8-sig")  # as Windows' Notepad may write it
    assert read_settings_file() == {"experiment": "knee"}


def test_a_settings_file_that_is_no_toml_is_named_with_its_line(settings_file):
    settings_file.write_text("experiment = knee\n")
    with pytest.raises(ValueError, match=r"settings\.toml: .*line 1.* needs quotation marks"):
        read_choices()


@pytest.mark.parametrize(
    "line", ['epochs = "many"', "batch_size = 0", 'loss = "hinge"', "beta_1 = 1.5", "debug = 1", 'experiment = "liver"']
)
def test_a_wrong_value_in_the_settings_file_is_named_with_the_file(settings_file, line):
    settings_file.write_text(f"{line}\n")
    with pytest.raises(ValueError, match=rf"settings\.toml: {line.split()[0]} "):
        read_choices()


def test_the_settings_file_that_comes_with_the_project_chooses_the_defaults():
    assert choose_settings(**read_settings_file()) == choose_settings()


def test_settings_show_what_a_run_is_and_the_rest_on_demand():
    shown, folded = choose_settings(epochs=7)._repr_markdown_().split("<details>")
    assert "| epochs | 7 |" in shown
    assert "| beta_1 |" in folded
    names = [f.name for f in dataclasses.fields(Settings)]
    assert all(f"| {name} |" in shown + folded for name in names)


@pytest.mark.parametrize(("experiment", "profile"), RUNS)
def test_run_folder_follows_from_the_choices(experiment, profile):
    assert choose_settings(experiment, profile).run_folder.name == f"{experiment}-baseline-{profile}"


@pytest.mark.parametrize(
    ("choices", "expected"),
    [
        ({"experiment": "liver"}, "brain"),
        ({"profile": "fast"}, "quick"),
        ({"recipe": "best"}, "baseline"),
        ({"updates": "both"}, "simultaneous, alternating"),
        ({"resize": "crop"}, "pad, squash"),
        ({"generator_input_dim": 12}, "generator_input_dim 12 .* these do: 1, 2, 4, 8, 16, 32$"),
        ({"generator_input_dim": 64}, "generator_input_dim 64 .* these do"),
        ({"seed": -1}, "seed -1"),
        ({"phantom_subjects": 2}, "phantom_subjects 2 is too small: choose 3 or more"),
        ({"epochs": "3"}, "epochs takes a whole number, not '3'"),
        ({"epochs": True}, "epochs takes a whole number, not True"),
        ({"epochs": None}, "epochs takes a whole number, not None"),
        ({"steps_per_epoch": 1.5}, "steps_per_epoch takes a whole number or None, not 1.5"),
        ({"debug": 1}, "debug takes True or False, not 1"),
        ({"beta_1": "0.5"}, "beta_1 takes a number, not '0.5'"),
        ({"output": 3}, "output takes text, not 3"),
        ({"output": ""}, "output is empty: name the folder"),
        ({"output": " "}, "output is empty: name the folder"),
        ({"output": "~nosuchuser/runs"}, "~nosuchuser/runs: there is no user of this name"),
        ({"data": "~nosuchuser"}, "~nosuchuser: there is no user of this name"),
        ({"epoch": 3}, "no such setting: epoch"),
        ({"epochs": 0}, "epochs 0"),
        ({"batch_size": 0}, "batch_size 0 is too small: choose 1 or more"),
        ({"seed": 2**70}, "seed 1180591620717411303424 is too large"),
        ({"image_size": 100}, "multiple of 8"),
        ({"image_size": 24}, "image_size 24 is too small: choose 32"),
        ({"image_size": 1032}, "image_size 1032 is too large: choose less than 1025"),
        ({"generator_learning_rate": -1e-4}, "generator_learning_rate"),
        ({"discriminator_learning_rate": float("nan")}, "discriminator_learning_rate"),
        ({"generator_learning_rate": float("inf")}, "generator_learning_rate inf"),
        ({"discriminator_learning_rate": 0}, "discriminator_learning_rate 0 is too small: choose more than 0"),
        ({"beta_1": 1.0}, "beta_1"),
        ({"beta_1": 1.5}, "beta_1 1.5"),
        ({"ema_decay": float("nan")}, "ema_decay nan"),
        ({"translation": float("-inf")}, "translation -inf"),
        ({"ema_decay": 1.0}, "ema_decay"),
        ({"translation": -0.1}, "translation"),
        ({"penalty_weight": -1.0}, "penalty_weight"),
        ({"penalty_weight": float("inf")}, "penalty_weight inf"),
        ({"penalty_weight": float("nan")}, "penalty_weight nan"),
        ({"penalty_decay": -1}, "penalty_decay -1 is too small"),
        ({"penalty_interval": 0}, "penalty_interval 0 is too small"),
        ({"networks": "best"}, "brain, knee, dcgan"),
        ({"initial_weights": "zeros"}, "glorot_uniform, he_normal, normal"),
        ({"minibatch_std": True}, "minibatch_std is there in the dcgan networks only"),
        ({"held_out_patients": 0}, "held_out_patients 0"),
        ({"evaluate_every": 0}, "evaluate_every 0 is too small"),
        ({"ssim_batches": 0}, "ssim_batches 0 is too small"),
        ({"precision": "float16"}, "precision 'float16' is not known; choose one of: float32, mixed_bfloat16"),
        ({"steps_per_execution": 0}, "steps_per_execution 0 is too small"),
        ({"steps_per_execution": 7}, "steps_per_execution 7 has to divide steps_per_epoch 240"),
        ({"steps_per_execution": 2, "steps_per_epoch": None}, "has to divide steps_per_epoch None"),
        ({"jit_compile": "yes"}, "jit_compile takes True or False or None, not 'yes'"),
    ],
)
def test_wrong_choice_is_refused_by_name(choices, expected):
    with pytest.raises(ValueError, match=expected):
        choose_settings(**choices)


@pytest.mark.parametrize("name", [name for name in Settings.__dataclass_fields__ if name not in CHOSEN_BY_NAME])
@pytest.mark.parametrize("value", [[1], b"1", 1 + 1j])
def test_wrong_types_are_refused_with_the_type_that_is_wanted(name, value):
    kinds = "True or False|a whole number|a number|text"
    with pytest.raises(ValueError, match=rf"^{name} takes ({kinds})( or None)?, not {re.escape(repr(value))}$"):
        choose_settings(**{name: value})


def test_the_ends_of_the_ranges_are_taken():
    settings = choose_settings(seed=2**32 - 1, latent_dim=10**6, image_size=1024, beta_1=0, penalty_weight=0)
    assert (settings.seed, settings.latent_dim, settings.image_size) == (2**32 - 1, 10**6, 1024)


def test_every_setting_says_what_it_means():
    settings = choose_settings()
    table = settings._repr_markdown_()
    for field in dataclasses.fields(settings):
        assert f"| {field.name} | {getattr(settings, field.name)} | {field.metadata['reason']} |" in table


def test_output_folder_can_come_from_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("GAN_OUTPUT", str(tmp_path))
    assert choose_settings().run_folder == tmp_path / "brain-baseline-quick"


def test_relative_folders_start_at_the_top_folder(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert project_path("data") == PROJECT_FOLDER / "data"
    assert project_path(tmp_path) == tmp_path
    for path in (PROJECT_FOLDER / "data" / "my scans", tmp_path):
        assert project_path(short_path(path)) == path
    assert short_path(PROJECT_FOLDER / "data") == "data"
