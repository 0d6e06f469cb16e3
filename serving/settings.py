"""Settings of a server: read from environment variables ``QUARTERTURN_*``, one field each, unknown ones refused.

The field's name in capitals follows the prefix: ``max_images`` is ``QUARTERTURN_MAX_IMAGES``. A variable that is set
but empty counts as not set.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from serving.errors import unknown_name
from serving.graphs.providers import ProviderChoice
from serving.images.image_file import MAX_PIXELS_LIMIT

PREFIX = "QUARTERTURN_"


class SettingsError(ValueError):
    """A variable that is unknown or whose value will not do; the message names it."""


def default_models_folder() -> Path:
    """Return ``models/`` beside this package: the checkout's, the Bento's and the container's."""
    return Path(__file__).parents[1] / "models"


class Settings(BaseModel):
    """What a server runs with. Frozen; unknown fields are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    models: Annotated[Path, Field(description="Folder of the graphs: `NAME/model.onnx` in it, one folder a model.")] = (
        Field(default_factory=default_models_folder)
    )
    default_classifier: Annotated[
        str | None,
        Field(description="Classifier that runs where a request names none. Needed where several are loaded."),
    ] = None
    one_class: Annotated[
        tuple[str, ...] | None,
        Field(
            description="One-class models that run where a request names none, separated by commas. Not set: those "
            "whose normal is the default classifier's whole training set; of these the ones calibrated on the same "
            "images, if there are any. A lone comma: none."
        ),
    ] = None
    device: Annotated[
        ProviderChoice,
        Field(description="`auto`: CUDA where it works, else the CPU; `cpu`; `cuda`: no start without a GPU."),
    ] = "auto"
    gpu: Annotated[
        int | None,
        Field(ge=0, description="Which of several GPUs, counted from 0. Not set: the workers take them in turn."),
    ] = None
    threads: Annotated[
        int | None,
        Field(
            ge=1,
            le=1024,
            description="Threads of one run of a model. Not set: 1; on a CPU a run beside which no other wants the "
            "cores gets one for every two views of 32 x 32, at most `QUARTERTURN_RUNS`.",
        ),
    ] = None
    runs: Annotated[
        int | None,
        Field(
            ge=1,
            le=1024,
            description="Runs of models side by side, per worker. Not set: as many as give each core a thread; on a "
            "GPU 1.",
        ),
    ] = None
    batch_wait_ms: Annotated[
        float,
        Field(
            ge=0,
            le=1000,
            description="On a GPU, milliseconds an image may wait for others to share its run, where other requests "
            "are on the way. On a CPU none waits.",
        ),
    ] = 2.0
    alpha: Annotated[
        float, Field(gt=0, lt=1, description="False-alarm rate where a request gives no `alpha`, between 0 and 1.")
    ] = 0.05
    max_images: Annotated[int, Field(ge=1, description="Images in one request.")] = 64
    max_image_bytes: Annotated[int, Field(ge=1, description="Bytes of one uploaded image.")] = 20 * 1024 * 1024
    max_image_pixels: Annotated[
        int,
        Field(
            ge=1,
            le=MAX_PIXELS_LIMIT,
            description=f"Pixels of one image, judged from its header; at most {MAX_PIXELS_LIMIT}.",
        ),
    ] = 25_000_000
    max_decoding_bytes: Annotated[
        int,
        Field(
            ge=1,
            description="Bytes of memory that the images which a worker decodes at a time may take (`quarterturn "
            "score`: for each core), judged from their headers; the next ones wait, and a larger one is decoded alone.",
        ),
    ] = 128 * 1024 * 1024
    max_request_bytes: Annotated[int, Field(ge=1, description="Bytes of a whole request.")] = 64 * 1024 * 1024
    max_in_flight: Annotated[
        int,
        Field(ge=1, description="Requests a worker works on at a time; more are answered 503 with Retry-After."),
    ] = 64
    max_reading: Annotated[
        int,
        Field(ge=1, description="Requests whose bodies a worker reads at a time; more are answered 503."),
    ] = 256
    max_held_bytes: Annotated[
        int,
        Field(
            ge=1,
            description="Bytes that a worker holds of all requests at a time, their images at the sizes of the models "
            "included; more are answered 503.",
        ),
    ] = 256 * 1024 * 1024
    max_request_seconds: Annotated[
        float,
        Field(gt=0, le=86_400, description="Seconds from a request's headers to its answer, its upload included."),
    ] = 60.0
    keep_alive_seconds: Annotated[
        float,
        Field(
            ge=1,
            le=86_400,
            description="Seconds that a connection without a request stays open. Longer than a load balancer keeps its "
            "own: else it sends a request now and then on one that is just being closed.",
        ),
    ] = 75.0
    api_key: Annotated[
        str | None,
        Field(
            min_length=8,
            pattern=r"^[!-~]+$",
            description="Key that requests must bring, as `X-API-Key: KEY` or `Authorization: Bearer KEY`: 8 or more "
            "printable ASCII characters without spaces. Not asked for by health checks, the pages at `/` and `/demo` "
            "and `/docs.json`. Not set: none.",
            repr=False,
        ),
    ] = None
    cors_origins: Annotated[
        tuple[str, ...],
        Field(description="Origins whose pages may call the API from a browser, separated by commas; `*`: all."),
    ] = ()
    lock_file: Annotated[
        Path | None,
        Field(
            description="File with the sha256 of every model, as `sha256sum` writes it; other models stop the start."
        ),
    ] = None
    access_log: Annotated[bool, Field(description="A line in the log for every request.")] = False
    log_format: Annotated[
        Literal["text", "json"], Field(description="`json`: every line of the log is a JSON object.")
    ] = "text"

    @field_validator("one_class", "cors_origins", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        if isinstance(value, str):
            return tuple(name.strip() for name in value.split(",") if name.strip())
        return value

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Settings:
        """Read the settings from environment variables; those without the prefix are left alone.

        Raises SettingsError for an unknown ``QUARTERTURN_*`` variable, with the nearest known one, and for a value out
        of its range.
        """
        given = {name: value.strip() for name, value in environment.items() if name.startswith(PREFIX)}
        for name in sorted(given):
            if name not in _VARIABLES:
                raise SettingsError(unknown_name("setting", name, _VARIABLES))
        try:
            return cls.model_validate({_VARIABLES[name]: value for name, value in given.items() if value})
        except ValidationError as error:
            problem = error.errors()[0]
            name = variable(str(problem["loc"][0]))
            value = "..." if name == variable("api_key") else repr(environment[name])
            raise SettingsError(f"{name}={value}: {problem['msg']}") from None

    def to_environment(self) -> dict[str, str]:
        """Return the variables from which ``from_environment`` reads these settings; None is left out."""
        values = self.model_dump(exclude_none=True)
        return {
            variable(field): ",".join(value) or "," if isinstance(value, tuple) else str(value)
            for field, value in values.items()
        }


def settings_table() -> str:
    """Return the settings as a Markdown table, one row a variable: its name, its default and what it says."""
    rows = ["| Variable | Default | Meaning |", "|---|---|---|"]
    for name, field in Settings.model_fields.items():
        default = "`models/` beside the code" if field.default_factory else _shown(field.default)
        rows.append(f"| `{variable(name)}` | {default} | {field.description} |")
    return "\n".join(rows) + "\n"


def _shown(default: object) -> str:
    return "not set" if default in (None, ()) else f"`{default}`"


def variable(field: str) -> str:
    """Return the environment variable of a field."""
    return PREFIX + field.upper()


_VARIABLES = {variable(field): field for field in Settings.model_fields}
