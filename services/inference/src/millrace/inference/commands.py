"""What inference can be asked, validated."""

from typing import Annotated
from uuid import UUID

from millrace.contracts.event import Namespace
from millrace.runtime.command import Command
from pydantic import Field

Model = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
RequestKey = Annotated[str, Field(min_length=1, max_length=500)]


class Deploy(Command):
    """Make a registered model version ready to serve."""

    model: Model
    version: Annotated[int, Field(ge=1)]


class Shift(Command):
    """Give a deployment a share of its model's traffic.

    Attributes:
        weight: Its share, percent; the rest goes to the deployment in use. 0 takes it out.
        reason: Why, in words.
    """

    deployment_id: UUID
    weight: Annotated[int, Field(ge=0, le=100)]
    reason: Annotated[str, Field(max_length=500)] = ""


class Judge(Command):
    """Say whether a canary is as good as what is in use.

    Attributes:
        min_samples: Labelled answers to wait for, beyond those of the verdict before.
        timeout_s: How long to wait for them, seconds.
        strict: Whether a pass needs proof of no harm; without it a pass needs only the absence of proven harm.
    """

    deployment_id: UUID
    min_samples: Annotated[int, Field(ge=1, le=1_000_000)]
    timeout_s: Annotated[float, Field(gt=0, le=30 * 24 * 3600)]
    strict: bool = False


class ReadRoute(Command):
    """Show where a model's traffic goes."""

    namespace: Namespace
    model: Model


class ReadDeployments(Command):
    """Show a page of the deployments of a model, or of all models of a namespace, the newest first.

    Attributes:
        limit: At most; 0 for 200.
        before: Those older than this one.
    """

    namespace: Namespace
    model: Model | None = None
    limit: Annotated[int, Field(ge=0, le=1000)] = 0
    before: UUID | None = None


class ReadCanary(Command):
    """Show what is known of a canary's answers."""

    namespace: Namespace
    deployment_id: UUID


class Label(Command):
    """The truth about one answered request, as it became known."""

    namespace: Namespace
    model: Model
    request_key: RequestKey
    label: Annotated[float, Field(ge=0, le=1)]
