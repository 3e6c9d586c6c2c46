import dataclasses

import pytest

from gan_utils.settings import PROFILES, PROJECT_FOLDER, choose_settings, project_path, short_path


def test_full_profile_is_the_published_system():
    settings = choose_settings("brain", "full")
    assert (settings.image_size, settings.batch_size, settings.epochs) == (256, 16, 50)
    assert (settings.generator_learning_rate, settings.discriminator_learning_rate, settings.beta_1) == (
        1e-4,
        1e-4,
        0.9,
    )
    assert settings.steps_per_epoch is None


@pytest.mark.parametrize("profile", PROFILES["brain"])
def test_run_folder_follows_from_the_choices(profile):
    assert choose_settings("brain", profile).run_folder.name == f"brain-baseline-{profile}"


@pytest.mark.parametrize(
    ("choices", "expected"),
    [
        ({"experiment": "liver"}, "brain"),
        ({"profile": "fast"}, "quick"),
        ({"recipe": "best"}, "baseline"),
        ({"experiment": "knee"}, "not part of the tutorial yet"),
        ({"epoch": 3}, "no such setting: epoch"),
        ({"epochs": 0}, "epochs 0"),
        ({"image_size": 100}, "multiple of 8"),
        ({"image_size": 24}, "multiple of 8"),
        ({"generator_learning_rate": -1e-4}, "generator_learning_rate"),
        ({"discriminator_learning_rate": float("nan")}, "discriminator_learning_rate"),
        ({"beta_1": 1.0}, "beta_1"),
    ],
)
def test_wrong_choice_is_refused_by_name(choices, expected):
    with pytest.raises(ValueError, match=expected):
        choose_settings(**choices)


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
