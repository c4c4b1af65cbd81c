"""Wiring."""

from millrace.contracts import oip
from millrace.contracts.rpc.inference.v1 import inference_pb2 as pb
from millrace.inference.api.deployments import InferenceApi
from millrace.inference.api.predictions import PredictionsApi
from millrace.inference.api.telling import Teller
from millrace.inference.clients.feature import OnlineFeatures
from millrace.inference.engine.routes import Routes
from millrace.inference.handlers import SUBSCRIPTIONS, keep_labels
from millrace.inference.settings import Settings
from millrace.inference.store import Store
from millrace.inference.work import TASKS
from millrace.runtime.caller import caller
from millrace.runtime.housekeeping import older_than
from millrace.runtime.service import service


async def main(settings: Settings) -> None:
    """Run the inference service until SIGTERM, then drain."""
    async with service("inference", settings) as inference:
        begin = inference.transactions(Store)
        routes = Routes(begin, inference.artifacts)
        teller = Teller(begin, routes, settings.log_entries)
        features = OnlineFeatures(
            lambda: inference.channels.to("feature", on_behalf_of=caller().principal),
            settings.feature_ttl_s,
            settings.feature_timeout_s,
        )
        predictions = PredictionsApi(
            routes, features, teller, settings.request_rows, inference.ready.is_set, begin.database.clock.time
        )
        inference.subscribe(SUBSCRIPTIONS, begin, TASKS)
        inference.listen(lambda: settings.labels_topics, keep_labels, begin)
        inference.serve(pb.DESCRIPTOR.services_by_name["InferenceService"], InferenceApi(), begin)
        inference.serve_foreign(oip.SERVICE.full_name, predictions.methods(), begin, oip.SERVICE)
        inference.housekeep(
            older_than(settings.judged_for, "canary_observation", Store.forget_observations, begin),
            older_than(settings.judged_for, "label", Store.forget_labels, begin),
        )
        inference.background(routes.follow)
        inference.background(teller.run)
        await routes.look()
        await inference.run()
        await teller.tell()
