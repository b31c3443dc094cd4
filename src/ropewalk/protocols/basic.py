"""Lines, strings and files, under the names of twisted.protocols.basic.

    from ropewalk.protocols.basic import LineReceiver

Nothing is defined here: lines.py, strings.py and files.py do it. Why a file of its own: one import that Twisted's users know.
It must never know more than their names.
"""

from ropewalk.protocols.files import FileSender
from ropewalk.protocols.framers import NetstringParseError
from ropewalk.protocols.lines import LineOnlyReceiver, LineReceiver
from ropewalk.protocols.strings import (
    Int8StringReceiver,
    Int16StringReceiver,
    Int32StringReceiver,
    IntNStringReceiver,
    NetstringReceiver,
    StatefulStringProtocol,
    StringTooLongError,
)

__all__ = [
    "FileSender",
    "Int8StringReceiver",
    "Int16StringReceiver",
    "Int32StringReceiver",
    "IntNStringReceiver",
    "LineOnlyReceiver",
    "LineReceiver",
    "NetstringParseError",
    "NetstringReceiver",
    "StatefulStringProtocol",
    "StringTooLongError",
]
