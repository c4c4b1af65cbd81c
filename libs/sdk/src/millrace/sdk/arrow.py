"""Tables as they travel: Arrow IPC streams."""

import pyarrow as pa
from millrace.runtime.errors import InvalidInput


def stream(table: pa.Table) -> bytes:
    """Return a table as bytes."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    content: bytes = sink.getvalue().to_pybytes()
    return content


def table(content: bytes) -> pa.Table:
    """Return the table in some bytes.

    Raises:
        InvalidInput: They hold none.
    """
    try:
        return pa.ipc.open_stream(content).read_all()
    except pa.ArrowInvalid as error:
        raise InvalidInput(f"no Arrow IPC stream: {error}") from None
