"""What every transport asks of what it is given, whatever carries the bytes: a connection, a layer over one, a double for tests.

A mistake is refused at once, in the same words everywhere, and before anything was kept. It must never know a transport.
Why functions and not an ancestor: transports share what they refuse, not how they are made.
Source: ITransport.write and writeSequence, IConsumer.registerProducer.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

__all__ = ["as_bytes", "as_pieces", "check_producer"]


def as_bytes(data: object) -> bytes:
    """The data as bytes, copied if it is something else that holds bytes. Raises: TypeError for anything that does not."""
    if isinstance(data, bytes):
        return data
    try:
        # Why through a memoryview: bytes(7) would be seven zeros, and bytes([1, 2]) two bytes.
        return bytes(memoryview(data))  # type: ignore[arg-type]
    except TypeError:
        raise TypeError(f"data must be bytes-like, not {type(data).__name__}: {data!r:.60}") from None


def as_pieces(data: Iterable[bytes | bytearray | memoryview]) -> list[bytes]:
    """Each of any iterable as bytes; a generator gives its items once. Raises: TypeError unless all are bytes-like."""
    if isinstance(data, (bytes, bytearray, memoryview, str)):
        kind = type(data).__name__
        raise TypeError(f"writeSequence needs an iterable of bytes-like objects, not one {kind}")
    return [as_bytes(item) for item in data]


def check_producer(producer: Any, streaming: bool, registered: Any) -> None:
    """Whether a producer may be registered.

    Args:   registered: the one that is; None for none.
    Raises: RuntimeError if there is one; TypeError naming the methods that it lacks.
    """
    if registered is not None:
        raise RuntimeError(
            f"cannot register producer {producer!r}: {registered!r} is registered and was not unregistered"
        )
    wanted = ("pauseProducing", "resumeProducing", "stopProducing")[0 if streaming else 1 :]
    missing = [name for name in wanted if not callable(getattr(producer, name, None))]
    if missing:
        raise TypeError(f"a producer must have {', '.join(wanted)}; {producer!r} lacks {', '.join(missing)}")
