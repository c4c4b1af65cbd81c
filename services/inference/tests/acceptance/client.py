"""What an application with an unmodified `tritonclient` does: run in an environment without Millrace."""

import json
import sys
from typing import Any

import numpy as np
import tritonclient.grpc as triton


def infer_input(name: str, values: Any, datatype: str) -> Any:
    column = triton.InferInput(name, list(values.shape), datatype)
    column.set_data_from_numpy(values)
    return column


def main(target: str, token: str, model: str) -> dict[str, Any]:
    headers = {"authorization": f"Bearer {token}", "x-millrace-namespace": "demo"}
    client = triton.InferenceServerClient(target)
    rows = 3
    inputs = [
        infer_input("carrier", np.array([b"UA"] * rows, dtype=np.object_), "BYTES"),
        infer_input("weather.wind", np.array([1, 2, 3], dtype=np.float32).reshape(rows, 1), "FP32"),
        infer_input("load.hour", np.array([1, 2, np.nan]), "FP64"),
    ]
    answer = client.infer(
        model,
        inputs,
        request_id="r1",
        parameters={"routing_key": "flight-1"},
        headers=headers,
        client_timeout=20,
    )
    some = client.infer(model, inputs, outputs=[triton.InferRequestedOutput("score")], headers=headers)
    try:
        client.infer(model, inputs[:1], headers=headers)
        refused = ""
    except triton.InferenceServerException as error:
        refused = f"{error.status()} {error.message()}"
    return {
        "live": client.is_server_live(),
        "ready": client.is_server_ready(),
        "model_ready": client.is_model_ready(model, headers=headers),
        "server": client.get_server_metadata(as_json=True)["name"],
        "takes": [one["name"] for one in client.get_model_metadata(model, headers=headers, as_json=True)["inputs"]],
        "scores": answer.as_numpy("score").tolist(),
        "prediction_ids": [one.decode() for one in answer.as_numpy("prediction_id")],
        "version": answer.get_response().model_version,
        "id": answer.get_response().id,
        "only_scores": some.as_numpy("prediction_id") is None and some.as_numpy("score").shape == (rows,),
        "refused": refused,
    }


if __name__ == "__main__":
    sys.stdout.write(json.dumps(main(*sys.argv[1:])))
