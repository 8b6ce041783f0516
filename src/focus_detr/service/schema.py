"""Parameters and answers, as the OpenAPI document describes them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import Depends, Query, Request
from pydantic import BaseModel, ConfigDict, Field

from focus_detr.service.answers import Wanted
from focus_detr.service.errors import ServiceError
from focus_detr.service.served import ServedModel
from focus_detr.structures.budget import AUTO, SMALLEST

_ID = "5f2c0f6e0b1d4c57a6f1b7a3c7f2d9aa"


class Parameters(BaseModel):
    """What a request may ask, in its address; anything else is refused."""

    model_config = ConfigDict(extra="forbid", protected_namespaces=())

    model: Annotated[
        str | None, Field(max_length=200, description="A model by its name; the default when not given.")
    ] = None
    threshold: Annotated[
        float | None, Field(ge=0, le=1, description="Lowest score reported; the model's own when not given.")
    ] = None
    classes: Annotated[
        str | None, Field(max_length=10_000, description="Only these classes, by name: a,b,c.")
    ] = None
    budget: Annotated[
        Annotated[float, Field(ge=SMALLEST, le=1)] | Literal["auto"] | None,
        Field(
            description="Mean share of tokens that an encoder layer works on: less is faster. Models that "
            "select tokens take one; those with a rule for it choose one for each picture by `auto`.",
        ),
    ] = None
    heatmap: Annotated[
        bool, Field(description="A picture of where the model expects objects, to lay over the image.")
    ] = False
    where: Annotated[
        bool, Field(description="The places that the query of each detection looked at: x, y, weight.")
    ] = False

    def wanted(self, model: ServedModel) -> Wanted:
        """What is asked of a model.

        Raises:
            ServiceError: something the model has not.
        """
        classes = None
        if self.classes is not None:
            classes = tuple(name.strip() for name in self.classes.split(",") if name.strip())
            unknown = [name for name in classes if name not in model.predictor.class_names]
            if unknown or not classes:
                raise ServiceError(
                    422,
                    "unknown_class",
                    f"{model.name} has no class {unknown[0]!r}; GET /v1/models lists its classes"
                    if unknown
                    else "classes: none given; leave it out for all",
                )
        if self.budget is not None and not model.takes_budget:
            raise ServiceError(
                422, "no_budget", f"{model.name} takes no budget: it works on what it was made for"
            )
        if self.budget == AUTO and not model.chooses_budget:
            raise ServiceError(
                422, "no_budget", f"{model.name} has no rule to choose a budget by; give a number"
            )
        if self.heatmap and not model.has_scores:
            raise ServiceError(422, "no_heatmap", f"{model.name} scores no tokens, which a heat map shows")
        return Wanted(self.threshold, classes, self.budget, self.heatmap, self.where)


def asked_once(request: Request, parameters: Annotated[Parameters, Query()]) -> Parameters:
    """The parameters of a request, none of which may be said twice."""
    said = [name for name, _ in request.query_params.multi_items()]
    if len(said) > len(set(said)):
        twice = next(name for index, name in enumerate(said) if name in said[:index])
        raise ServiceError(422, "invalid_parameter", f"{twice}: given twice; leave one out")
    return parameters


Asked = Annotated[Parameters, Depends(asked_once)]


class Size(BaseModel):
    width: int
    height: int


class Milliseconds(BaseModel):
    """Where the time went."""

    decode: float
    wait: float
    model: float
    total: float


class RunLengths(BaseModel):
    """A bitmap as COCO's compressed run lengths, of a picture of `size`, height and width."""

    size: list[int]
    counts: str


class Detection(BaseModel):
    """An object; `box` is left, top, right, bottom in pixels of the upright picture."""

    model_config = ConfigDict(populate_by_name=True)

    class_: Annotated[str, Field(alias="class")]
    label: int
    score: float
    box: list[float]
    mask: Annotated[RunLengths | None, Field(description="Of models that give masks.")] = None
    where: list[list[float]] | None = None


class Answer(BaseModel):
    """What was found in one picture, best first."""

    model: str
    image: Size
    budget: Annotated[
        float | None, Field(description="That asked for, or chosen; null where the model's own shares hold.")
    ]
    kept: Annotated[float | None, Field(description="Mean share of tokens that encoder layers worked on.")]
    milliseconds: Milliseconds
    detections: list[Detection]
    heatmap: Annotated[str | None, Field(description="data:image/png;base64,...")] = None
    request_id: str


class Problem(BaseModel):
    code: str
    message: str
    request_id: str


class ErrorAnswer(BaseModel):
    """Every answer that is not the one asked for."""

    error: Problem


class BatchItem(BaseModel):
    """One picture's answer, or its error: the others do not suffer."""

    model_config = ConfigDict(extra="allow")

    name: str
    error: Problem | None = None


class BatchAnswer(BaseModel):
    results: list[BatchItem]
    request_id: str


class JobOf(BaseModel):
    """A job: so many pictures, so many of them answered, so many of these with an error."""

    id: str
    status: Literal["queued", "running", "done"]
    created: float
    pictures: int
    done: int
    failed: int


class Address(BaseModel):
    """A picture to be fetched."""

    model_config = ConfigDict(extra="forbid")

    url: Annotated[str, Field(max_length=2000, examples=["https://images.example.org/cells.jpg"])]


class BudgetOf(BaseModel):
    accepted: bool
    auto: Annotated[bool, Field(description="Whether the model can choose one for each picture.")]
    default: float | Literal["auto"] | None
    smallest: float


class ModelOf(BaseModel):
    """A model that is served."""

    name: str
    default: bool
    classes: list[str]
    threshold: float
    class_thresholds: dict[str, float]
    budget: BudgetOf
    heatmap: bool
    size_megabytes: float
    parameters: int | None


class Models(BaseModel):
    models: list[ModelOf]


EXAMPLE_ANSWER: dict[str, Any] = {
    "model": "blood-cells",
    "image": {"width": 640, "height": 480},
    "budget": None,
    "kept": 0.2993,
    "milliseconds": {"decode": 4.1, "wait": 0.2, "model": 38.5, "total": 43.6},
    "detections": [
        {"class": "WBC", "label": 2, "score": 0.93, "box": [211.4, 108.9, 361.2, 277.5]},
    ],
    "request_id": _ID,
}
EXAMPLE_ERROR: dict[str, Any] = {
    "error": {
        "code": "unreadable_picture",
        "message": "not an image of a known format. Convert it to JPEG or PNG, or remove it.",
        "request_id": _ID,
    }
}


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The errors of a route, for its description."""
    content = {"application/json": {"example": EXAMPLE_ERROR}}
    return {status: {"model": ErrorAnswer, "content": content} for status in statuses}


def answers(model: type[BaseModel], example: Any = None) -> dict[int | str, dict[str, Any]]:
    """The answer of a route that is asked well."""
    content = {} if example is None else {"content": {"application/json": {"example": example}}}
    return {200: {"model": model, **content}}


def body_of_pictures(several: bool) -> dict[str, Any]:
    """The body of requests with pictures, which routes read themselves."""
    file = {"type": "string", "contentMediaType": "application/octet-stream"}
    field = {"type": "array", "items": file, "minItems": 1} if several else file
    form = {"type": "object", "required": ["image"], "properties": {"image": field}}
    content: dict[str, Any] = {"multipart/form-data": {"schema": form}}
    if not several:
        content["image/*"] = {"schema": {"type": "string", "contentMediaType": "image/*"}}
    return {"requestBody": {"required": True, "content": content}}
