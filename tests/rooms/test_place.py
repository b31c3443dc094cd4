"""HOST:PORT: what people write is understood, and what cannot be meant is refused with the text repeated."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ropewalk.cli.place import Place, place_to_connect, place_to_listen


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("localhost:80", "localhost", 80),
        ("example.org:https", "example.org", "https"),
        ("127.0.0.1:65535", "127.0.0.1", 65535),
        ("[::1]:80", "::1", 80),
        ("[fe80::1%eth0]:80", "fe80::1%eth0", 80),
        ("my_host-2:08", "my_host-2", 8),
    ],
)
def test_a_place_to_connect_to_is_a_host_and_a_port(text, host, port):
    assert place_to_connect(text) == Place(host, port)


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("8007", "", 8007),
        ("http", "", "http"),
        ("0", "", 0),
        (":8007", "", 8007),
        ("*:8007", "", 8007),
        ("localhost:0", "localhost", 0),
        ("[::]:8007", "::", 8007),
    ],
)
def test_a_place_to_listen_on_needs_the_port_only(text, host, port):
    assert place_to_listen(text) == Place(host, port)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("localhost", "has no port"),
        ("", "has no port"),
        ("localhost:", "has no port"),
        (":80", "names no host"),
        ("localhost:65536", "not between 0 and 65535"),
        ("localhost:-1", "not between 0 and 65535"),
        ("localhost:" + "9" * 5000, "not between 0 and 65535"),
        ("localhost:0", "port 0"),
        ("localhost:8 0", "space or control"),
        ("local\nhost:80", "space or control"),
        ("\x1b[31mhost:80", "space or control"),
        ("::1", "needs brackets"),
        ("::1:80", "needs brackets"),
        ("a:b:80", "needs brackets"),
        ("[::1]", "has no port"),
        ("[::1]80", "needs brackets"),
        ("[localhost]:80", "no IPv6 address"),
        ("[127.0.0.1]:80", "no IPv6 address"),
        ("localhost:h/p", "neither a number nor the name"),
        ("localhost:³", "neither a number nor the name"),
    ],
)
def test_what_is_no_place_to_connect_to_is_refused_with_the_text_and_what_is_wrong(text, says):
    with pytest.raises(ValueError, match=says) as caught:
        place_to_connect(text)
    assert repr(text)[:30] in str(caught.value)


@pytest.mark.parametrize("text", ["a b", "", "70000", "[::1]", "::1", "localhost:x y"])
def test_what_is_no_place_to_listen_on_is_refused(text):
    with pytest.raises(ValueError):
        place_to_listen(text)


def test_one_word_to_listen_on_is_the_name_of_a_service():
    assert place_to_listen("localhost") == Place("", "localhost")


@given(st.text())
def test_any_text_is_a_place_or_a_value_error(text):
    for read in (place_to_connect, place_to_listen):
        try:
            place = read(text)
        except ValueError:
            continue
        assert isinstance(place.port, str) or 0 <= place.port <= 65535


@given(
    st.ip_addresses().map(str) | st.from_regex(r"[a-z][a-z0-9.-]{0,20}", fullmatch=True),
    st.integers(1, 65535),
)
def test_a_place_is_written_as_it_is_read(host, port):
    assert place_to_connect(str(Place(host, port))) == Place(host, port)
