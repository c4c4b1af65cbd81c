"""Triggers over gRPC, and what they made of events: translate, hand over, translate back."""

from operator import attrgetter

from millrace.contracts.rpc.control.v1 import control_pb2 as pb
from millrace.control.api.messages import match_message, run_message, time_message, trigger_message
from millrace.control.api.pages import asked_page, cut
from millrace.control.commands import (
    ApplyTrigger,
    DeleteTrigger,
    ExplainEvent,
    GetRun,
    GetTrigger,
    PauseTrigger,
    ResumeTrigger,
    UnblockTrigger,
    read_trigger,
)
from millrace.control.domain.explain import led_by
from millrace.control.handlers import (
    apply_trigger,
    delete_trigger,
    explain_event,
    explain_run,
    pause_trigger,
    resume_trigger,
    unblock_trigger,
)
from millrace.control.store import Store
from millrace.runtime.caller import caller


class TriggerApi:
    """What control answers about triggers and events; one line each way."""

    async def ApplyTrigger(self, request: pb.ApplyTriggerRequest, tx: Store) -> pb.ApplyTriggerResponse:
        trigger = read_trigger(request.trigger)
        command = ApplyTrigger(namespace=request.namespace, principal=caller().principal, trigger=trigger)
        return pb.ApplyTriggerResponse(name=trigger.name, unchanged=not await apply_trigger(command, tx))

    async def DeleteTrigger(self, request: pb.DeleteTriggerRequest, tx: Store) -> pb.DeleteTriggerResponse:
        command = DeleteTrigger(namespace=request.namespace, principal=caller().principal, name=request.name)
        runs, events = await delete_trigger(command, tx)
        return pb.DeleteTriggerResponse(cancelled_runs=runs, dropped_events=events)

    async def ExplainEvent(self, request: pb.ExplainEventRequest, tx: Store) -> pb.ExplainEventResponse:
        asked = ExplainEvent(namespace=request.namespace, source=request.source, event_id=request.event_id)
        arrived, explanations = await explain_event(asked, tx)
        if arrived is None:
            return pb.ExplainEventResponse(received=False)
        return pb.ExplainEventResponse(
            received=True,
            received_at=time_message(arrived.received_at),
            deliveries=arrived.deliveries,
            source=arrived.event.source,
            matches=[match_message(found) for found in explanations],
        )

    async def ExplainRun(self, request: pb.ExplainRunRequest, tx: Store) -> pb.ExplainRunResponse:
        kept, reasons = await explain_run(GetRun(namespace=request.namespace, run_id=request.run_id), tx)
        events = [
            pb.RunEvent(source=e["source"], event_id=e["id"], type=e["type"], time=e["time"], slot=slot)
            for slot, e in led_by(kept)
        ]
        return pb.ExplainRunResponse(run=run_message(kept, tasks=False), reasons=reasons, events=events)

    async def GetTrigger(self, request: pb.GetTriggerRequest, tx: Store) -> pb.GetTriggerResponse:
        asked = GetTrigger(namespace=request.namespace, name=request.name)
        return pb.GetTriggerResponse(trigger=trigger_message(await tx.shown_trigger(asked.namespace, asked.name)))

    async def ListTriggers(self, request: pb.ListTriggersRequest, tx: Store) -> pb.ListTriggersResponse:
        asked = asked_page(request)
        found = await tx.shown_triggers(asked.namespace, asked.after, asked.limit + 1)
        page, after = cut(found, asked, attrgetter("name"))
        return pb.ListTriggersResponse(triggers=map(trigger_message, page), next_after=after)

    async def PauseTrigger(self, request: pb.PauseTriggerRequest, tx: Store) -> pb.PauseTriggerResponse:
        command = PauseTrigger(namespace=request.namespace, principal=caller().principal, name=request.name)
        return pb.PauseTriggerResponse(trigger=trigger_message(await pause_trigger(command, tx)))

    async def ResumeTrigger(self, request: pb.ResumeTriggerRequest, tx: Store) -> pb.ResumeTriggerResponse:
        command = ResumeTrigger(namespace=request.namespace, principal=caller().principal, name=request.name)
        return pb.ResumeTriggerResponse(trigger=trigger_message(await resume_trigger(command, tx)))

    async def UnblockTrigger(self, request: pb.UnblockTriggerRequest, tx: Store) -> pb.UnblockTriggerResponse:
        command = UnblockTrigger(namespace=request.namespace, principal=caller().principal, name=request.name)
        return pb.UnblockTriggerResponse(trigger=trigger_message(await unblock_trigger(command, tx)))
