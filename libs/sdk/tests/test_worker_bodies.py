"""Which functions of a package a worker takes."""

from pathlib import Path

import pytest
from millrace.runtime.errors import InvalidInput, NotFound
from millrace.sdk.worker import kinds_of

TASKS = """
from millrace.sdk.flows import task

@task("acme.one")
def one():
    pass

@task("data.two", queue="acme")
async def two():
    pass

three = task("acme.three")
"""


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Path:
    folder = tmp_path / f"acme_{abs(hash(request.node.name))}"
    (folder / "inner").mkdir(parents=True)
    for place in (folder, folder / "inner"):
        (place / "__init__.py").touch()
    (folder / "inner" / "tasks.py").write_text(TASKS)
    (folder / "__main__.py").write_text("raise SystemExit('it was run')")
    monkeypatch.syspath_prepend(tmp_path)
    return folder


def test_the_functions_of_a_queue_are_found_in_all_modules_of_a_package(package: Path) -> None:
    (package / "again.py").write_text(f"from {package.name}.inner.tasks import one as same")

    assert [row.kind for row in kinds_of(package.name, "acme")] == ["acme.one", "data.two"]


def test_two_functions_for_one_kind_are_refused_by_their_places(package: Path) -> None:
    (package / "other.py").write_text(TASKS)

    with pytest.raises(InvalidInput, match=r"acme\.one is .*inner\.tasks\.one and .*other\.one: keep one"):
        kinds_of(package.name, "acme")


def test_a_package_without_a_function_for_the_queue_says_how_to_write_one(package: Path) -> None:
    with pytest.raises(NotFound, match=r'is for queue other: write @task\("other\.<verb>"\) above one'):
        kinds_of(package.name, "other")


def test_a_package_that_is_not_there_is_named_and_an_import_of_its_own_that_fails_is_told_as_it_is(
    package: Path,
) -> None:
    with pytest.raises(NotFound, match=r"there is no module nowhere\.tasks|there is no module nowhere"):
        kinds_of("nowhere.tasks", "acme")
    (package / "broken.py").write_text("import nothing_of_the_kind")
    with pytest.raises(ModuleNotFoundError, match="nothing_of_the_kind"):
        kinds_of(package.name, "acme")
