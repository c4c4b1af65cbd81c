"""What feature does with what it is asked and told."""

import math

from millrace.contracts.feature import TrainingSetBuilt, ViewApplied, ViewMaterialised
from millrace.contracts.openlineage import ref
from millrace.contracts.tasks import Output
from millrace.feature.commands import ApplyViews, ListViews, ReadOnline
from millrace.feature.domain import AppliedView, Found, Generation, Online, TrainingSet, view_hash
from millrace.feature.store import Store
from millrace.runtime.errors import Conflict, InvalidInput, NotFound
from millrace.runtime.subscriptions import Subscription
from pydantic import BaseModel

LISTED = 100


class Materialised(BaseModel):
    """Generations whose rows are all there."""

    generations: list[Generation]


class Built(BaseModel):
    """A training set whose file is there."""

    training_set: TrainingSet


async def apply_views(command: ApplyViews, tx: Store) -> list[AppliedView]:
    """Put views in force and announce those that are new."""
    held = await tx.hold_views(command.namespace, [view.name for view in command.views])
    for view in command.views:
        applied = AppliedView(view, view_hash(view))
        if held.get(view.name) != applied.view_hash:
            tx.save_view(command.namespace, applied)
            tx.emit(ViewApplied(namespace=command.namespace, view=view.name, view_hash=applied.view_hash))
    return await tx.views(command.namespace, [view.name for view in command.views])


async def list_views(command: ListViews, tx: Store) -> tuple[list[AppliedView], str]:
    """Return a page of the views in force, by name, and where the next one begins; empty after the last."""
    most = command.limit or LISTED
    found = await tx.list_views(command.namespace, command.after, most + 1)
    return found[:most], found[most - 1].view.name if len(found) > most else ""


async def read_online(command: ReadOnline, tx: Store) -> Online:
    """Return the newest values of some entities.

    Raises:
        NotFound: A view is not online, or not yet.
        InvalidInput: An entity lacks a column by which a view is found.
    """
    by_view: dict[str, list[Found]] = {name: [] for name in command.views}
    for found in await tx.online(command.namespace, list(by_view), command.entities):
        by_view[found.view].append(found)
    if missing := [name for name, known in by_view.items() if not known]:
        raise NotFound(f"view {missing[0]} in {command.namespace} is not online; materialise it first")
    views = [known[0] for known in by_view.values()]
    for view in views:
        for place, asked in enumerate(command.entities):
            if absent := [column for column in view.entity if column not in asked]:
                raise InvalidInput(f"entity {place} has no {absent[0]}, by which view {view.view} is found")
    rows: list[list[float]] = [[] for _ in command.entities]
    for known in by_view.values():
        for row, found in zip(rows, known, strict=False):  # asked of nobody, a view is there once
            row.extend(found.values or [math.nan] * len(found.features))
    features = [f"{view.view}.{name}" for view in views for name in view.features]
    return Online(features, rows, {view.view: view.generation for view in views})


async def put_online(result: Materialised, tx: Store) -> Output:
    """Put generations online and announce those that are new there."""
    for generation in result.generations:
        await _put_online(generation, tx)
        for version_id in generation.version_ids:
            tx.used(ref("data.version", version_id))
        tx.made(ref("feature.view", generation.generation), view=generation.view, entities=generation.entities)
    return {
        "generations": {generation.view: generation.generation for generation in result.generations},
        "entities": sum(generation.entities or 0 for generation in result.generations),
    }


async def _put_online(generation: Generation, tx: Store) -> None:
    namespace, view = tx.task.namespace, generation.view
    if (rows := await tx.online_entities(namespace, generation)) != generation.entities:
        raise Conflict(
            f"generation {generation.generation} of view {view} has {rows} rows, not {generation.entities}:"
            " compute it again"
        )
    online = await tx.hold_pointer(namespace, view)
    if online and (online.generation == generation.generation or online.started_at > generation.started_at):
        return
    tx.point(namespace, generation)
    tx.emit(
        ViewMaterialised(
            namespace=namespace,
            view=view,
            view_hash=generation.view_hash,
            generation=generation.generation,
            version_ids=list(generation.version_ids),
            entities=generation.entities or 0,
        )
    )


async def keep_training_set(result: Built, tx: Store) -> Output:
    """Store a training set and announce it if it is new."""
    made, namespace = result.training_set, tx.task.namespace
    hashes = [applied.view_hash for applied in made.views]
    if await tx.add_training_set(namespace, made):
        tx.emit(
            TrainingSetBuilt(
                namespace=namespace,
                training_set_id=made.training_set_id,
                view_hashes=hashes,
                version_ids=list(made.version_ids),
                spine_rows=made.spine_rows,
            )
        )
    for version_id in made.version_ids:
        tx.used(ref("data.version", version_id))
    for declared in hashes:
        tx.used(ref("feature.declaration", declared))
    about = {"name": made.name, "rows": made.spine_rows, "features": len(made.features)}
    tx.made(ref("feature.training_set", made.training_set_id), **about)
    return {
        "training_set_id": made.training_set_id,
        "rows": made.spine_rows,
        "features": len(made.features),
        "sha256": made.sha256,
    }


SUBSCRIPTIONS: tuple[Subscription, ...] = ()
