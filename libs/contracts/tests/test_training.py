from datetime import UTC, datetime

import pytest
from millrace.contracts.training import Golden, ModelFeature, ModelManifest, tree_hash
from pydantic import ValidationError

MANIFEST = ModelManifest(
    model="shops",
    estimator="lightgbm.classifier",
    params={"num_leaves": 7, "learning_rate": 0.1},
    seed=0,
    training_set_id="e" * 64,
    features=(ModelFeature(view="shop", feature="load", source="online"),),
    online_views=(),
    base_rate=0.25,
    fitted_until=datetime(2026, 1, 24, tzinfo=UTC),
    golden=Golden(rows=[[None], [0.10000000149011612]], scores=[0.2, 0.3], tolerance=1e-5),
)


def test_a_versions_id_depends_on_paths_and_contents_and_not_on_their_order() -> None:
    files = {"model.onnx": "a" * 64, "manifest.json": "b" * 64}

    assert tree_hash(files) == tree_hash(dict(reversed(files.items())))
    assert tree_hash(files) != tree_hash({"model.onnx": "b" * 64, "manifest.json": "a" * 64})


def test_a_manifest_is_read_as_it_was_written_to_the_last_bit() -> None:
    again = ModelManifest.model_validate_json(MANIFEST.to_bytes())

    assert again == MANIFEST
    assert again.to_bytes() == MANIFEST.to_bytes()
    assert again.features[0].name == "shop.load"


def test_a_manifest_of_another_format_is_refused() -> None:
    with pytest.raises(ValidationError, match="format"):
        ModelManifest.model_validate_json(MANIFEST.to_bytes().replace(b"millrace-model/1", b"millrace-model/9"))
