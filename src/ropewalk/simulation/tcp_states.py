"""The states of a TCP connection, as RFC 9293 draws them, and the table that changes them.

The states are the kernel's, not the program's: a program sees them only through what its calls answer. Two differences
from the diagram, both Linux's: TIME_WAIT is what the kernel keeps when the socket is CLOSED for the program already, and
a listener is a thing of its own (listening.py) that never becomes a connection.

Source: RFC 9293 section 3.3.2; Linux net/ipv4/tcp.c, tcp_close_state, and net/ipv4/tcp_input.c, tcp_fin.
"""

from __future__ import annotations

from enum import StrEnum

from ropewalk.machine import Table


class TcpState(StrEnum):
    CLOSED = "closed"
    SYN_SENT = "SYN sent"
    SYN_RECEIVED = "SYN received"
    ESTABLISHED = "established"
    FIN_WAIT_1 = "we have closed"
    FIN_WAIT_2 = "we have closed, acknowledged"
    CLOSE_WAIT = "peer has closed"
    CLOSING = "both closed at once"
    LAST_ACK = "peer closed, then we"
    TIME_WAIT = "over, waiting for strays"


class TcpEvent(StrEnum):
    CONNECT = "SYN goes out"
    SYN_CAME = "SYN comes in"
    OPENED = "handshake done"
    FIN_QUEUED = "FIN goes out"
    FIN_ACKED = "FIN acknowledged"
    FIN_CAME = "FIN comes in"
    DROPPED = "reset, timeout, or closed with nothing to say"


_S, _E = TcpState, TcpEvent

TCP: Table[TcpState, TcpEvent] = Table(
    "Endpoint",
    {
        (_S.CLOSED, _E.CONNECT): _S.SYN_SENT,
        (_S.CLOSED, _E.SYN_CAME): _S.SYN_RECEIVED,
        (_S.SYN_SENT, _E.OPENED): _S.ESTABLISHED,
        (_S.SYN_RECEIVED, _E.OPENED): _S.ESTABLISHED,
        (_S.ESTABLISHED, _E.FIN_QUEUED): _S.FIN_WAIT_1,
        (_S.SYN_RECEIVED, _E.FIN_QUEUED): _S.FIN_WAIT_1,
        (_S.CLOSE_WAIT, _E.FIN_QUEUED): _S.LAST_ACK,
        (_S.ESTABLISHED, _E.FIN_CAME): _S.CLOSE_WAIT,
        (_S.SYN_RECEIVED, _E.FIN_CAME): _S.CLOSE_WAIT,
        (_S.FIN_WAIT_1, _E.FIN_CAME): _S.CLOSING,
        (_S.FIN_WAIT_2, _E.FIN_CAME): _S.TIME_WAIT,
        (_S.FIN_WAIT_1, _E.FIN_ACKED): _S.FIN_WAIT_2,
        (_S.CLOSING, _E.FIN_ACKED): _S.TIME_WAIT,
        (_S.LAST_ACK, _E.FIN_ACKED): _S.CLOSED,
        **{(state, _E.DROPPED): _S.CLOSED for state in TcpState},
    },
)

OVER = frozenset((TcpState.CLOSED, TcpState.TIME_WAIT))
"""A program has nothing left of such a connection but what it has not read yet."""

SENDING = frozenset((TcpState.ESTABLISHED, TcpState.CLOSE_WAIT))
"""A program may send."""
