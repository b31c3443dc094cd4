"""Protocols, ready to be subclassed: framing in both forms, and sending files.

    from ropewalk.protocols.basic import LineReceiver

`framers.py` cuts bytes into messages and knows no connection; `lines.py` and `strings.py` do so for a Protocol; `files.py`
sends files; `basic.py` has it all under Twisted's names. Built on the public API alone. Importing this package imports none
of them.
"""
