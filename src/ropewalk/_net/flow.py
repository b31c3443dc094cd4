"""Back-pressure: when a producer is to be paused, and when to be resumed. No I/O.

A stream that has a producer asks this room after each write and after each send; without one it never does. Pausing
happens once per crossing of the high-water mark, not once per write; resuming when the buffer has fallen to the
low-water mark. A pull producer is never paused: it is asked for more each time the buffer is empty.

Source: Twisted's IPushProducer and IPullProducer.
"""

from __future__ import annotations

from typing import Any


class Flow:
    """One producer registered with one stream."""

    __slots__ = ("_asked", "paused", "producer", "streaming")

    def __init__(self, producer: Any, streaming: bool) -> None:
        self.producer = producer
        self.streaming = streaming
        self.paused = False
        # Whether a pull producer was asked and has not written since; it is not asked twice.
        self._asked = not streaming

    def has_ended(self) -> bool:
        """Whether the producer is a transport that has ended: it will not unregister, as port forwarders never do."""
        return self._says("disconnected")

    def is_holding(self) -> bool:
        """Whether the producer is a layer that holds bytes which were written before (`isHolding`, policies/rates.py)."""
        return self._says("isHolding")

    def _says(self, name: str) -> bool:
        try:
            return getattr(self.producer, name, None) is True
        except Exception:
            return (
                False  # Safe because: most producers are asked in vain, and one that raises has not said so.
            )

    def wrote(self, waiting: int, high: int) -> bool:
        """Something was written; whether the producer is to be paused now."""
        self._asked = False
        if self.streaming and not self.paused and waiting > high:
            self.paused = True
            return True
        return False

    def drained(self, waiting: int, low: int) -> bool:
        """Something was sent; whether the producer is to be resumed, or asked, now."""
        if self.streaming:
            if self.paused and waiting <= low:
                self.paused = False
                return True
        elif waiting == 0 and not self._asked:
            self._asked = True
            return True
        return False
