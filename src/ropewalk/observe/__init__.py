"""Seen from outside: what became of a connection, told as text, JSON or diagrams.

    recorder = Recorder()                     # remembers, within bounds
    reactor.observers.append(recorder)
    reactor.observers.append(Tracer(sys.stderr.write))       # or one line for each step, live
    ...
    print(explain(connector))                 # a Timeline: .text() .json() .mermaid()

Built on the public API only: `reactor.observers`, `number` and `ended` of the objects, and the attributes of
their reasons. The engine knows nothing of this folder; take it away and every connection works as before.
"""

from ropewalk.observe.diagrams import mermaid
from ropewalk.observe.explain import explain
from ropewalk.observe.recorder import Recorder
from ropewalk.observe.timeline import Moment, Timeline
from ropewalk.observe.tracer import Tracer

__all__ = ["Moment", "Recorder", "Timeline", "Tracer", "explain", "mermaid"]
