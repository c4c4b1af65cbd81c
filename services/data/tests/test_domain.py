from dataclasses import fields, replace

from millrace.data.domain import Check, Contract, Manifest, Rule, canonical_sha256, checks_of, repeated

MANIFEST = Manifest("sales", "2013-01", "c", "s", "g", "")


def test_a_version_id_depends_on_every_part_of_its_manifest() -> None:
    others = {replace(MANIFEST, **{field.name: "other"}).version_id for field in fields(Manifest)}

    assert MANIFEST.version_id == replace(MANIFEST).version_id
    assert len(others | {MANIFEST.version_id}) == len(fields(Manifest)) + 1


def test_the_hash_of_a_document_does_not_depend_on_the_order_of_its_keys() -> None:
    assert canonical_sha256({"a": 1, "b": [1, 2]}) == canonical_sha256({"b": [1, 2], "a": 1})
    assert canonical_sha256({"a": 1, "b": [1, 2]}) != canonical_sha256({"a": 1, "b": [2, 1]})


def test_checks_tell_of_every_rule_and_of_what_could_not_be_read() -> None:
    contract = Contract(
        "sales", "c", (), (Rule("b is missing", "b IS NULL", description="why"), Rule("a is late", "a > 1"))
    )

    checks = checks_of(contract, {"a is late": 2, "cannot be read: too many columns": 1})

    assert checks == (
        Check("b is missing", 0, "why"),
        Check("a is late", 2),
        Check("cannot be read: too many columns", 1),
    )


def test_repeated_names_are_told_once() -> None:
    assert repeated(["a", "b", "a", "a", "c", "b"]) == ["a", "b"]
    assert repeated(["a", "b"]) == []
