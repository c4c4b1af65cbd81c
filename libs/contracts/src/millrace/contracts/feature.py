"""What feature tells: views and training sets."""

from typing import Annotated, ClassVar

from millrace.contracts.event import Event
from pydantic import Field


class ViewEvent(Event):
    """A fact about one feature view; all facts of a view stay in order."""

    topic: ClassVar[str] = "feature.views"
    key_field: ClassVar[str] = "view"

    view: str
    view_hash: str


class ViewApplied(ViewEvent):
    """A view's declaration is in force under its content hash."""


class ViewMaterialised(ViewEvent):
    """A view's newest values can be read online.

    Attributes:
        generation: Id of what was computed: hash of view and dataset versions.
        version_ids: Dataset versions it was computed from.
        entities: Rows of the online table.
    """

    generation: str
    version_ids: list[str]
    entities: Annotated[int, Field(ge=0)]


class TrainingSetBuilt(Event):
    """A point-in-time training set can be read.

    Attributes:
        training_set_id: Hash of spine, views and dataset versions.
        view_hashes: Views that contributed columns.
        version_ids: Dataset versions it was computed from.
        spine_rows: Rows asked for; as many were returned.
    """

    topic: ClassVar[str] = "feature.training_sets"
    key_field: ClassVar[str] = "training_set_id"

    training_set_id: str
    view_hashes: list[str]
    version_ids: list[str]
    spine_rows: Annotated[int, Field(ge=0)]
