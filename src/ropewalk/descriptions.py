"""Descriptions of endpoints: "tcp:host=example.org:port=80:timeout=5" as a kind, values in order, and values by name.

A description is parts between colons. The first is the kind; of the others, "name=value" is by name and anything else by
place. A backslash takes the character after it as it is, so a Windows path or an IPv6 address can be given: "tcp:\\:\\:1:80".

`Parts` hands the values out once each and knows which were not asked for; what is missing, unknown or of the wrong form is a
ValueError that shows the description, names the part and says what would be right. It must never know endpoints.

Source: the syntax of Twisted's strports, so that descriptions in people's configurations keep their meaning.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

__all__ = ["Parts", "quoted"]

T = TypeVar("T")
# What "no limit" is called where a number of seconds is expected.
_NEVER = ("none", "never")


def quoted(value: str) -> str:
    """The value with a backslash before what has a meaning in descriptions. Source: endpoints.quoteStringArgument."""
    return value.replace("\\", "\\\\").replace(":", "\\:").replace("=", "\\=")


def family_of(address: str) -> str:
    """Its name: "IPv4" or "IPv6"; of "localhost" too, which `listenTCP` takes. Raises: ValueError if it is no address."""
    if address == "localhost":
        return "IPv4"
    from ipaddress import ip_address  # Why here: most programs describe no local address.

    return f"IPv{ip_address(address).version}"


class Parts:
    """The parts of one description.

    Args:   description: the text.
    Raises: TypeError unless it is a str; ValueError for a value given twice, or a backslash with nothing behind it.
    """

    def __init__(self, description: str) -> None:
        if not isinstance(description, str):
            raise TypeError(f"a description is a str, not {type(description).__name__}: {description!r}")
        self.description = description
        self.places: list[str] = []
        self.names: dict[str, str] = {}
        for name, value in _split(description):
            if name is None:
                self.places.append(value)
            elif name in self.names:
                raise self.wrong(f"{name} is given twice")
            else:
                self.names[name] = value
        self.kind = self.places.pop(0) if self.places else ""
        if not self.kind:
            raise self.wrong("it must begin with a kind, as tcp:example.org:80 does")

    def wrong(self, why: str) -> ValueError:
        """The error that tells what is the matter with this description."""
        return ValueError(f"endpoint {self.description!r}: {why}")

    def order(self, *names: str) -> None:
        """Say what values by place are called, in their order.

        Raises: ValueError if there are more than that, or one is given by name as well.
        """
        # Why those by name are left out first: "tcp:80:host=example.org" means the port.
        left = [name for name in names if name not in self.names]
        for value in self.places:
            if not left:
                raise self.wrong(f"{value!r} is one value too many; {self.kind} takes {', '.join(names)}")
            self.names[left.pop(0)] = value
        self.places = []

    def text(self, name: str, default: str | None = None) -> str:
        """A value as it is. Raises: ValueError if it is missing and there is no default."""
        value = self.names.pop(name, default)
        if value is None:
            raise self.wrong(f"{name} is missing, as in {name}=…")
        return value

    def filled(self, name: str, right: str) -> str:
        """A value that is not empty; `right` says what it should be."""
        text = self.text(name)
        if not text:
            raise self.wrong(f"{name} must be {right}, not ''")
        return text

    def address(self, name: str, family: str | None) -> str:
        """An IP address of a family, None for any; "" if it is not given. Why no host name: looking it up would block."""

        def right(text: str) -> str:
            if text and family_of(text) != (family or family_of(text)):
                raise ValueError
            return text

        return self.parsed(name, self.text(name, ""), right, f"an {family or 'IPv4 or IPv6'} address")

    def number(self, name: str, least: int, most: int, default: int | None = None) -> int:
        """A whole number within bounds."""
        text = self.text(name, None if default is None else str(default))
        if text.isascii() and text.isdecimal() and least <= int(text) <= most:
            return int(text)
        raise self.wrong(f"{name} must be a whole number from {least} to {most}, not {text!r}")

    def seconds(self, name: str, default: float | None, never: bool = True) -> float | None:
        """A number of seconds above 0; "never" is None, unless there must be a limit."""
        if name not in self.names:
            return default
        text = self.text(name)
        if never and text.lower() in _NEVER:
            return None
        right = "a number of seconds above 0, or never" if never else "a number of seconds above 0"
        return self.parsed(name, text, _positive, right)

    def parsed(self, name: str, text: str, parse: Callable[[str], T], right: str) -> T:
        """What a function makes of a value; `right` says what it accepts."""
        try:
            return parse(text)
        except ValueError:
            raise self.wrong(f"{name} must be {right}, not {text!r}") from None

    def end(self, *known: str) -> None:
        """Raises: ValueError if there are values that nobody asked for."""
        for name in self.names:
            raise self.wrong(f"{self.kind} knows no {name}; it takes {', '.join(known)}")


def _split(description: str) -> list[tuple[str | None, str]]:
    """(name or None, value) of each part."""
    found: list[tuple[str | None, str]] = []
    name: str | None = None
    value = ""
    characters = iter(description)
    for character in characters:
        if character == "\\":
            taken = next(characters, None)
            if taken is None:
                raise ValueError(f"endpoint {description!r}: there is nothing behind the last backslash")
            value += taken
        elif character == ":":
            found.append((name, value))
            name, value = None, ""
        elif character == "=" and name is None:
            name, value = value, ""
        else:
            value += character
    found.append((name, value))
    return found


def _positive(text: str) -> float:
    seconds = float(text)
    if not 0 < seconds < float("inf"):
        raise ValueError
    return seconds
