"""Features of moments that a caller brings, from rows that it brings."""

from collections.abc import Mapping, Sequence

import pyarrow as pa
from millrace.feature.commands import View
from millrace.feature.engine.sandbox import ALL, Bounds, Table
from millrace.feature.engine.views import as_known
from millrace.runtime.errors import InvalidInput

TIME = pa.timestamp("us", tz="UTC")


def compute(views: Sequence[View], spine: bytes, sources: Mapping[str, bytes], bounds: Bounds) -> bytes:
    """Return the views' features as they were known at each moment, as training sets have them.

    Args:
        views: What to ask.
        spine: Arrow IPC stream: the entities' columns and `t`.
        sources: Per source, an Arrow IPC stream of its rows. `<name>__all` may be given beside `<name>`, whose rows it
            then stands for with the quarantined ones; and a column `_landed_at`, without which no row ever landed.
        bounds: What each view's SQL may take.

    Returns:
        Arrow IPC stream of as many rows as the spine, in its order, with one DOUBLE column per `view.feature`.

    Raises:
        InvalidInput: Bytes are no such stream, a source is missing, or SQL fails.
    """
    moments = _read("spine", spine)
    tables = {name.lower(): _read(name, content) for name, content in sources.items()}
    columns: dict[str, pa.ChunkedArray] = {}
    for view in views:
        found = as_known(view, moments, _lent(view, tables), bounds)
        columns |= {name: found.column(name) for name in found.column_names}
    sink = pa.BufferOutputStream()
    table = pa.table(columns)
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    content: bytes = sink.getvalue().to_pybytes()
    return content


def _lent(view: View, tables: Mapping[str, pa.Table]) -> dict[str, Table]:
    lent: dict[str, Table] = {}
    for source in view.sources:
        name = source.dataset.lower()
        if name not in tables:
            raise InvalidInput(f"view {view.name} reads {source.dataset}, of which no rows were given")
        lent |= {each: tables[each] for each in (name, name + ALL) if each in tables}
    return lent


def _read(name: str, content: bytes) -> pa.Table:
    try:
        with pa.ipc.open_stream(content) as reader:
            table = reader.read_all()
            table.validate(full=True)
        # Times are counted in microseconds everywhere; one that does not fit is not moved across another.
        for place, field in enumerate(table.schema):
            if pa.types.is_timestamp(field.type) and field.type.tz is not None and field.type != TIME:
                table = table.set_column(place, field.name, table.column(place).cast(TIME))
    except (pa.ArrowException, OSError, ValueError) as error:
        raise InvalidInput(f"{name} is no Arrow IPC stream that can be read: {str(error)[:200]}") from None
    if len(set(table.column_names)) < table.num_columns:
        raise InvalidInput(f"{name} has two columns of one name")
    return table
