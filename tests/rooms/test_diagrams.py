"""State tables as diagrams: every arrow of the table is drawn, and names cannot break the syntax."""

import re
from enum import StrEnum

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ropewalk.observe.diagrams import escaped, mermaid, text


class Lamp(StrEnum):
    OFF = "off"
    ON = "on"
    BROKEN = "end"
    HALF_BROKEN = "half broken"
    ODD = "half_broken"


class Press(StrEnum):
    PUSH = "push"
    HIT = "hit; hard\n"
    WAIT = "wait"


TABLE = {
    (Lamp.OFF, Press.PUSH): Lamp.ON,
    (Lamp.ON, Press.PUSH): Lamp.OFF,
    (Lamp.ON, Press.WAIT): Lamp.OFF,
    (Lamp.OFF, Press.WAIT): Lamp.OFF,
    (Lamp.ON, Press.HIT): Lamp.HALF_BROKEN,
    (Lamp.HALF_BROKEN, Press.HIT): Lamp.BROKEN,
    (Lamp.HALF_BROKEN, Press.PUSH): Lamp.ODD,
}


def test_the_diagram_has_every_arrow_of_the_table_the_beginning_and_the_ends():
    assert (
        mermaid(TABLE, Lamp.OFF)
        == """\
stateDiagram-v2
    state "half broken" as half_broken
    state "end" as end_3
    state "half_broken" as half_broken_4
    [*] --> off
    off --> on: push
    on --> off: push, wait
    off --> off: wait
    on --> half_broken: hit#59; hard#92;n
    half_broken --> end_3: hit#59; hard#92;n
    half_broken --> half_broken_4: push
    end_3 --> [*]
    half_broken_4 --> [*]"""
    )


def test_the_text_lists_each_state_and_where_its_events_lead():
    assert (
        text(TABLE, Lamp.OFF)
        == """\
off (at the beginning)
    push → on
    wait → itself
on
    push, wait  → off
    hit; hard\\n → half broken
half broken
    hit; hard\\n → end
    push        → half_broken
end (at the end)
half_broken (at the end)"""
    )


def test_the_initial_state_comes_first_wherever_the_table_mentions_it():
    assert mermaid(TABLE, Lamp.ON).split("\n")[4] == "    [*] --> on"


def test_an_initial_state_that_the_table_lacks_is_refused_by_name():
    with pytest.raises(ValueError, match="BROKEN"):
        mermaid({(Lamp.OFF, Press.PUSH): Lamp.ON}, Lamp.BROKEN)


@given(st.text())
def test_escaped_text_holds_nothing_that_mermaid_reads_as_syntax(given):
    assert re.fullmatch(r"(?:[^#;%<>`{}\"\\&\n\r]|#\d+;)*", escaped(given))


def test_escaped_text_keeps_addresses_and_sentences_readable():
    assert escaped("[::1]:80 is up, half-closed (why?)") == "[::1]:80 is up, half-closed (why?)"
