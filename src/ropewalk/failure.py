"""Failure: an exception that travels as a value instead of being raised.

Callbacks cannot raise at their caller, so errors are handed over: to `connectionLost(reason)`, to
`clientConnectionFailed`, down a Deferred's errbacks. A Failure holds the exception, its class and its
traceback, and can print itself or raise the exception again with the traceback it had.

This room must never know Deferreds, reactors or logs; it only wraps and prints.

The traceback is held as Python made it, not copied into text: making a Failure costs four assignments,
and printing is paid for only by those who print. A Failure keeps the frames of the traceback alive until
`cleanFailure()`, or until it is dropped; it makes no reference cycle by itself.
Rule: frames are turned into text by cleanFailure and by pickling, so that neither carries variables away.
Rejected: capturing variables (`captureVars` is taken and ignored) and the post-mortem hook of Twisted's; a debugger
  and `getTracebackObject()` give more. A number for each Failure: it would cost every one, and only logs show it.
Source: twisted.python.failure for names and behaviour; the traceback module for walking tracebacks.
"""

import linecache
import sys
from collections.abc import Generator
from types import TracebackType
from typing import IO, NamedTuple, NoReturn, TypeAlias, TypeVar

__all__ = ["Failure", "NoCurrentExceptionError"]


T = TypeVar("T")
# Why: inside the class `type` is an attribute, which a type checker would take for the builtin.
Kind: TypeAlias = type[BaseException]


class NoCurrentExceptionError(Exception):
    """`Failure()` without arguments was made where no exception is being handled."""


class Place(NamedTuple):
    """One line of a traceback, when the traceback itself is gone."""

    function: str
    file: str
    line: int


def qualified_name(kind: object) -> str:
    """The class as "module.Class"; for a builtin too, as Twisted has it: "builtins.ValueError"."""
    if not isinstance(kind, type):
        return repr(kind)
    return f"{kind.__module__}.{kind.__name__}"


def safe_text(value: object) -> str:
    """str(value), or what can be said of a value whose __str__ raises: errors must always print."""
    try:
        return str(value)
    except Exception as broken:
        return f"<{qualified_name(type(value))} whose __str__ raised {qualified_name(type(broken))}>"


class Failure(BaseException):
    """An exception that has not been raised at you.

    Args:     exc_value: the exception; None takes the one being handled, with its traceback. Another
                  Failure is copied: an exception raised by `raiseException` and caught again thus keeps
                  one history. Any other object is allowed, as in Twisted.
              exc_type: its class, when that cannot be told from the value.
              exc_tb: its traceback; None takes the exception's own.
              captureVars: ignored; no variables are captured.
    Raises:   NoCurrentExceptionError when there is no exception to take.
    Source:   twisted.python.failure.Failure. It is a BaseException here as there, so that
              `raise failure` is at least an error with a traceback; use `raiseException()` instead.
    """

    __slots__ = ("__weakref__", "_places", "tb", "type", "value")

    # Why BaseException for the value: mypy lets users read .value's attributes; other objects are rare.
    value: BaseException
    type: Kind
    tb: TracebackType | None
    _places: tuple[Place, ...] | None

    def __init__(
        self,
        exc_value: BaseException | None = None,
        exc_type: Kind | None = None,
        exc_tb: TracebackType | None = None,
        captureVars: object = False,
    ) -> None:
        self._places = None
        if exc_value is None:
            exc_value = sys.exception()
            if exc_value is None:
                raise NoCurrentExceptionError("there is no exception being handled to make a Failure of")
            exc_type = exc_tb = None
        if isinstance(exc_value, Failure):
            self.value, self.type = exc_value.value, exc_value.type
            self.tb, self._places = exc_value.tb, exc_value._places
            return
        self.value = exc_value
        self.type = exc_value.__class__ if exc_type is None else exc_type
        self.tb = exc_tb or getattr(exc_value, "__traceback__", None)

    # --- asking ---

    def check(self, *errorTypes: Kind | str) -> Kind | str | None:
        """Whether the exception is one of these.

        Args:     errorTypes: classes, or qualified names such as "builtins.ValueError"; a subclass counts.
        Returns:  the first that matches, as it was given; None if none does.
        """
        family = self.type.__mro__
        for wanted in errorTypes:
            if wanted in family:
                return wanted
            if isinstance(wanted, str) and any(qualified_name(kind) == wanted for kind in family):
                return wanted
        return None

    def trap(self, *errorTypes: Kind | str) -> Kind | str:
        """Like `check`, but raises the exception on if it is none of these.

        Returns:  the first that matches, as it was given.
        Raises:   the exception itself, with its traceback.
        """
        matched = self.check(*errorTypes)
        if matched is None:
            try:
                self.raiseException()
            finally:
                del self  # Why: the traceback holds this frame
        return matched

    def raiseException(self) -> NoReturn:
        """Raise the exception, with the traceback it had."""
        try:
            raise self.value.with_traceback(self.tb)
        finally:
            del self  # Why: the traceback holds this frame

    def throwExceptionIntoGenerator(self, g: Generator[T, None, object]) -> T:
        """Throw the exception into a generator, with the traceback it had.

        Returns:  what the generator yields next.
        Raises:   what it raises; StopIteration when it returns.
        """
        try:
            return g.throw(self.value.with_traceback(self.tb))
        finally:
            del self, g  # Why: the traceback holds this frame

    # --- telling ---

    @property
    def parents(self) -> list[str]:
        """The qualified names of the exception's class and of its ancestors, in the order of `__mro__`."""
        return [qualified_name(kind) for kind in self.type.__mro__]

    @property
    def frames(self) -> list[tuple[str, str, int, tuple[()], tuple[()]]]:
        """Function, file and line of each frame, outermost first; also when the traceback has been cleaned away.

        The two that are empty are where Twisted has captured variables.
        """
        return [(*place, (), ()) for place in self._walk()]

    def getErrorMessage(self) -> str:
        """The exception's text; never raises."""
        return safe_text(self.value)

    def getTracebackObject(self) -> TracebackType | None:
        """The traceback, None if there was none or it has been cleaned away."""
        return self.tb

    def getTraceback(self, elideFrameworkCode: object = 0, detail: str = "default") -> str:
        """The traceback as text.

        Args:     elideFrameworkCode: ignored, as in Twisted.
                  detail: "default" as Python prints it; "brief" one line a frame, no source;
                      "verbose" like brief with a head and an end, for logs.
        Raises:   ValueError for another detail.
        """
        places = self._walk()
        kind, message = qualified_name(self.type), safe_text(self.value)
        if detail == "brief":
            empty = "" if places else " (failure with no frames)"
            head = [f"Traceback{empty}: {self.type}: {message}\n"]
            return "".join(head + [f"{place.file}:{place.line}:{place.function}\n" for place in places])
        if detail == "verbose":
            lines = [f"{place.file}:{place.line}: {place.function}(...)\n" for place in places] or [
                "Failure: "
            ]
            return "".join(
                ["*--- Failure ---\n", *lines, f"{kind}: {message}\n", "*--- End of Failure ---\n"]
            )
        if detail != "default":
            raise ValueError(f"detail must be 'default', 'brief' or 'verbose', not {detail!r}")
        lines = [self._line(place) for place in places] or ["Failure: "]
        return "".join(["Traceback (most recent call last):\n", *lines, f"{kind}: {message}\n"])

    def getBriefTraceback(self) -> str:
        """`getTraceback(detail="brief")`."""
        return self.getTraceback(detail="brief")

    def printTraceback(
        self, file: IO[str] | None = None, elideFrameworkCode: object = False, detail: str = "default"
    ) -> None:
        """Write `getTraceback(detail=detail)` to a file; None is standard error."""
        (sys.stderr if file is None else file).write(self.getTraceback(detail=detail))

    def printBriefTraceback(self, file: IO[str] | None = None, elideFrameworkCode: object = 0) -> None:
        """`printTraceback(file, detail="brief")`."""
        self.printTraceback(file, detail="brief")

    def printDetailedTraceback(self, file: IO[str] | None = None, elideFrameworkCode: object = 0) -> None:
        """`printTraceback(file, detail="verbose")`."""
        self.printTraceback(file, detail="verbose")

    def __repr__(self) -> str:
        return f"<{qualified_name(type(self))} {qualified_name(self.type)}: {self.getErrorMessage()}>"

    def __str__(self) -> str:
        return f"[Failure instance: {self.getBriefTraceback()}]"

    # --- letting go ---

    def cleanFailure(self) -> None:
        """Let go of the traceback, here and on the exception; its lines remain as text."""
        self._places = self._walk()
        self.tb = None
        if getattr(self.value, "__traceback__", None) is not None:
            self.value.__traceback__ = None

    def __reduce__(self) -> tuple[object, ...]:
        return _remake, (type(self), self.value, self.type, self._walk())

    def _walk(self) -> tuple[Place, ...]:
        """The lines of the traceback, outermost first."""
        if self._places is not None:
            return self._places
        places = []
        step = self.tb
        while step is not None:
            code = step.tb_frame.f_code
            places.append(Place(code.co_name, code.co_filename, step.tb_lineno))
            step = step.tb_next
        return tuple(places)

    def _line(self, place: Place) -> str:
        source = linecache.getline(place.file, place.line).strip()
        return f'  File "{place.file}", line {place.line}, in {place.function}\n    {source}\n'


def _remake(cls: type[Failure], value: BaseException, kind: Kind, places: tuple[Place, ...]) -> Failure:
    made = cls.__new__(cls)
    made.value, made.type, made.tb, made._places = value, kind, None, places
    return made
