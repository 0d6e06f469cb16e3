from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from serving.images.image_file import MAX_PIXELS_LIMIT
from serving.settings import Settings, SettingsError, settings_table, variable


def refusal(environment: dict[str, str]) -> str:
    with pytest.raises(SettingsError) as caught:
        Settings.from_environment(environment)
    return str(caught.value)


def test_an_environment_without_ours_gives_the_defaults() -> None:
    settings = Settings.from_environment({"HOME": "somewhere", "ALPHA": "9"})
    assert settings == Settings()
    assert settings.models == Path(__file__).parents[2] / "models"
    assert (settings.device, settings.alpha, settings.one_class, settings.default_classifier) == (
        "auto",
        0.05,
        None,
        None,
    )


def test_every_variable_is_read() -> None:
    environment = {
        "QUARTERTURN_MODELS": "some/models",
        "QUARTERTURN_DEFAULT_CLASSIFIER": "a",
        "QUARTERTURN_ONE_CLASS": "b, c,",
        "QUARTERTURN_DEVICE": "cpu",
        "QUARTERTURN_GPU": "1",
        "QUARTERTURN_THREADS": "3",
        "QUARTERTURN_ALPHA": "0.01",
        "QUARTERTURN_MAX_IMAGES": "4",
        "QUARTERTURN_MAX_IMAGE_BYTES": "1000",
        "QUARTERTURN_MAX_IMAGE_PIXELS": "2000",
        "QUARTERTURN_MAX_DECODING_BYTES": "7000",
        "QUARTERTURN_MAX_READING": "8",
        "QUARTERTURN_MAX_REQUEST_BYTES": "3000",
        "QUARTERTURN_MAX_IN_FLIGHT": "5",
        "QUARTERTURN_MAX_HELD_BYTES": "6000",
        "QUARTERTURN_MAX_REQUEST_SECONDS": "1.5",
        "QUARTERTURN_KEEP_ALIVE_SECONDS": "90",
        "QUARTERTURN_RUNS": "2",
        "QUARTERTURN_BATCH_WAIT_MS": "0.5",
        "QUARTERTURN_API_KEY": "secret-key",
        "QUARTERTURN_CORS_ORIGINS": "https://a.example, https://b.example",
        "QUARTERTURN_LOCK_FILE": "models.lock",
        "QUARTERTURN_ACCESS_LOG": "true",
        "QUARTERTURN_LOG_FORMAT": "json",
    }
    settings = Settings.from_environment(environment)
    assert settings.model_dump() == {
        "models": Path("some/models"),
        "default_classifier": "a",
        "one_class": ("b", "c"),
        "device": "cpu",
        "gpu": 1,
        "threads": 3,
        "alpha": 0.01,
        "max_images": 4,
        "max_image_bytes": 1000,
        "max_image_pixels": 2000,
        "max_decoding_bytes": 7000,
        "max_reading": 8,
        "max_request_bytes": 3000,
        "max_in_flight": 5,
        "max_held_bytes": 6000,
        "max_request_seconds": 1.5,
        "keep_alive_seconds": 90,
        "runs": 2,
        "batch_wait_ms": 0.5,
        "api_key": "secret-key",
        "cors_origins": ("https://a.example", "https://b.example"),
        "lock_file": Path("models.lock"),
        "access_log": True,
        "log_format": "json",
    }
    assert set(environment) == {variable(field) for field in Settings.model_fields}
    assert Settings.from_environment(settings.to_environment()) == settings


@pytest.mark.parametrize("settings", [Settings(), Settings(one_class=()), Settings(one_class=("a",))])
def test_settings_survive_the_environment(settings: Settings) -> None:
    assert Settings.from_environment(settings.to_environment()) == settings


def test_empty_is_not_set() -> None:
    assert Settings.from_environment({variable(field): " " for field in Settings.model_fields}) == Settings()


def test_unknown_variables_are_refused_with_the_nearest() -> None:
    assert refusal({"QUARTERTURN_MAX_IMAGE": "3"}) == (
        "unknown setting 'QUARTERTURN_MAX_IMAGE'; did you mean 'QUARTERTURN_MAX_IMAGES'?"
    )
    assert refusal({"QUARTERTURN_max_images": "3"}).startswith("unknown setting 'QUARTERTURN_max_images'")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ALPHA", "0"),
        ("ALPHA", "1"),
        ("ALPHA", "nan"),
        ("ALPHA", "five"),
        ("DEVICE", "tpu"),
        ("THREADS", "0"),
        ("MAX_IMAGES", "0"),
        ("MAX_IMAGES", "1.5"),
        ("MAX_IMAGE_BYTES", "-1"),
        ("MAX_IMAGE_PIXELS", str(MAX_PIXELS_LIMIT + 1)),
        ("MAX_IN_FLIGHT", "0"),
    ],
)
def test_values_out_of_range_are_refused_by_name(name: str, value: str) -> None:
    assert refusal({f"QUARTERTURN_{name}": value}).startswith(f"QUARTERTURN_{name}='{value}': ")


def test_frozen() -> None:
    with pytest.raises(ValidationError):
        Settings().alpha = 0.5


def test_table_has_a_described_row_for_every_setting() -> None:
    lines = settings_table().splitlines()
    assert len(lines) == 2 + len(Settings.model_fields)
    for field, line in zip(Settings.model_fields, lines[2:], strict=True):
        _, name, default, meaning, _ = (cell.strip() for cell in line.split("|"))
        assert name == f"`{variable(field)}`"
        assert default
        assert meaning.endswith(".")
    assert str(Path(__file__).parents[2]) not in settings_table()


@pytest.mark.parametrize("key", ["short", "with space", "ключ-ключ"])
def test_a_bad_api_key_is_refused_and_not_shown(key: str) -> None:
    with pytest.raises(SettingsError, match="QUARTERTURN_API_KEY") as caught:
        Settings.from_environment({"QUARTERTURN_API_KEY": key})
    assert key not in str(caught.value)
    assert "secret-key" not in repr(Settings(api_key="secret-key"))
