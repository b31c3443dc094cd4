"""Invariant: one conversation, whatever its two users ask for and in which order, is what a simple model says it is.

Hypothesis draws what is asked, by whom, and how long the network takes over it; the model knows no engine: what was
written, who has closed, aborted or reset, who is paused. After each step what has come is a beginning of what was sent, a
paused end hears nothing, and an end is told what it may be told. At last everything is let go, and the model says which of
the two ends cleanly, with how much.
"""

from __future__ import annotations

import logging
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from ropewalk import ClientFactory, Factory, Protocol, TCPOptions
from ropewalk.error import ConnectionAborted, ConnectionDone, ConnectionLost
from ropewalk.event import EndedBy
from ropewalk.simulation import Simulation
from tests.fuzz.swarm import LogKeeper

ENDS = st.sampled_from(["client", "server"])
SIZES = st.sampled_from([1, 10, 3000, 70_000, 300_000])
SECONDS = st.sampled_from([0.0, 0.005, 0.01, 0.02, 0.5, 5.0])
HIGH, LOW = 50_000, 0
# Why so long: no wait of a run adds up to it, so it ends only those who can wait for ever.
CLOSE_TIMEOUT = 1000.0


class Party(Protocol):
    """One of the two; it also is its own producer."""

    is_producer = False

    def __init__(self) -> None:
        self.got = bytearray()
        self.heard: list[str] = []
        self.is_paused = False
        self.is_held = False
        self.reason: Any = None

    def connectionMade(self) -> None:
        assert self.heard == []
        self.heard.append("made")

    def dataReceived(self, data: bytes) -> None:
        assert self.heard[0] == "made"
        assert not {"read side", "lost"} & set(self.heard)
        assert not self.is_paused
        self.got += data

    def readConnectionLost(self) -> None:
        assert not {"read side", "lost"} & set(self.heard)
        self.heard.append("read side")

    def writeConnectionLost(self) -> None:
        assert not {"write side", "lost"} & set(self.heard)
        self.heard.append("write side")

    def connectionLost(self, reason: Any) -> None:
        assert "lost" not in self.heard
        self.heard.append("lost")
        self.reason = reason.value

    # As a producer: told in turns to pause and to resume, and nothing after it was stopped.

    def pauseProducing(self) -> None:
        assert self.is_producer
        assert not self.is_held
        self.is_held = True

    def resumeProducing(self) -> None:
        assert self.is_producer
        assert self.is_held
        self.is_held = False

    def stopProducing(self) -> None:
        assert self.is_producer
        self.is_producer = False


class Model:
    """What is known of one end without asking the engine."""

    def __init__(self) -> None:
        self.written = bytearray()
        self.has_closed = False
        self.has_aborted = False
        self.has_shut = False
        self.was_reset = False

    @property
    def may_write(self) -> bool:
        return not (self.has_aborted or self.has_shut)


class Conversation(RuleBasedStateMachine):
    """Two parties, and a model of each."""

    def __init__(self) -> None:
        super().__init__()
        self.sim = Simulation()
        self.sim._driver.spin_limit = 20_000
        server, client = self.sim.host("server"), self.sim.host("client")
        self.sim.latency(server, client, 0.01)
        # What a party asserts in a callback the engine catches and logs: so the log is part of what is looked at.
        self.logged: list[tuple[str, BaseException | None]] = []
        self.keeper = LogKeeper(self.logged)
        logging.getLogger("ropewalk").addHandler(self.keeper)
        self.parties: dict[str, Any] = {"server": Party(), "client": Party()}
        self.models = {"server": Model(), "client": Model()}
        self.is_broken = False
        options = TCPOptions(highWater=HIGH, lowWater=LOW, closeTimeout=CLOSE_TIMEOUT)
        self.port = server.reactor.listenTCP(7, self.factory(Factory, "server"), options=options)
        client.reactor.connectTCP(
            server.addresses[0], 7, self.factory(ClientFactory, "client"), options=options
        )
        self.sim.runUntilIdle()
        self.counter = 0

    def factory(self, kind: Any, name: str) -> Any:
        factory = kind()
        factory.noisy = False
        factory.buildProtocol = lambda addr: self.parties[name]
        return factory

    def lives(self, name: str) -> bool:
        return "lost" not in self.parties[name].heard

    # ---- what is asked ----------------------------------------------------------------------------------------

    @rule(name=ENDS, size=SIZES, parts=st.integers(1, 3))
    def write(self, name: str, size: int, parts: int) -> None:
        self.counter += 1
        data = bytes([self.counter % 256]) * size
        model = self.models[name]
        if model.has_shut and not model.has_aborted:
            return  # Why: between the request and the FIN it is nobody's promise whether that is still sent.
        if model.may_write and self.lives(name):
            model.written += data * parts
        self.parties[name].transport.writeSequence([data] * parts)

    @rule(name=ENDS)
    def pause_or_resume(self, name: str) -> None:
        party = self.parties[name]
        party.is_paused = not party.is_paused
        (party.transport.pauseProducing if party.is_paused else party.transport.resumeProducing)()

    @rule(name=ENDS)
    def lose_write(self, name: str) -> None:
        self.parties[name].transport.loseWriteConnection()
        self.models[name].has_shut |= not self.models[name].has_closed

    @precondition(lambda self: self.counter > 2)
    @rule(name=ENDS)
    def lose(self, name: str) -> None:
        self.parties[name].transport.loseConnection()
        self.models[name].has_closed = True

    @precondition(lambda self: self.counter > 6)
    @rule(name=ENDS)
    def abort(self, name: str) -> None:
        self.parties[name].transport.abortConnection()
        self.models[name].has_aborted |= self.lives(name)

    @precondition(lambda self: self.counter > 6)
    @rule()
    def reset(self) -> None:
        for connection in self.sim.connections():
            for name, model in self.models.items():
                model.was_reset |= self.lives(name)
            self.sim.reset(connection)
            self.is_broken = True

    @rule(name=ENDS)
    def register_or_unregister(self, name: str) -> None:
        party = self.parties[name]
        if party.is_producer:
            party.is_producer = party.is_held = False
            party.transport.unregisterProducer()
        elif self.lives(name):
            party.is_producer = True
            party.transport.registerProducer(party, True)

    @rule(seconds=SECONDS)
    def wait(self, seconds: float) -> None:
        self.sim.advance(seconds)

    @rule(name=ENDS, most=st.sampled_from([500, 5000, 1_000_000]))
    def short_writes(self, name: str, most: int) -> None:
        for call in ("send", "sendmsg", "recv"):
            self.sim.host(name).faults.short(call, most)

    # ---- what holds -------------------------------------------------------------------------------------------

    @invariant()
    def nothing_is_logged(self) -> None:
        assert self.logged == []

    @invariant()
    def what_came_is_a_beginning_of_what_was_sent(self) -> None:
        for name, peer in (("client", "server"), ("server", "client")):
            got = self.parties[name].got
            assert self.models[peer].written.startswith(got)
            assert len(got) == self.parties[name].transport.bytesReceived

    @invariant()
    def a_producer_is_held_when_too_much_waits_and_only_then(self) -> None:
        self.sim.advance(0)
        for name, party in self.parties.items():
            waiting = party.transport.bytesBuffered
            if party.is_producer and self.lives(name) and not self.models[name].has_aborted:
                assert party.is_held or waiting <= HIGH
                assert not party.is_held or waiting > LOW

    def teardown(self) -> None:
        """Everything is let go: nobody is paused, both close; and the model says how it ended."""
        try:
            self.let_go()
        finally:
            logging.getLogger("ropewalk").removeHandler(self.keeper)
        assert self.logged == []

    def let_go(self) -> None:
        for party in self.parties.values():
            if party.is_producer:
                party.is_producer = False
                party.transport.unregisterProducer()
            party.is_paused = False
            party.transport.resumeProducing()
        # Why first: who closes reads no more; what was sent is to arrive before anybody does.
        self.sim.runUntilIdle()
        is_violent = self.is_broken or any(model.has_aborted for model in self.models.values())
        for name, peer in (("client", "server"), ("server", "client")):
            model, other = self.models[name], self.models[peer]
            # Why: a peer that has closed answers what comes after with a reset, and a reset reaches who is paused too.
            may_be_reset = other.has_closed and self.parties[peer].got != model.written
            if not is_violent and not model.has_closed and not may_be_reset:
                assert self.parties[name].got == other.written
        for party in self.parties.values():
            party.transport.loseConnection()
        self.port.stopListening()
        self.sim.runUntilIdle()
        assert self.parties["client"].reason is not self.parties["server"].reason
        for name, party in self.parties.items():
            assert party.heard.count("lost") == 1
            self.check_reason(name, is_violent)
        self.sim.checkAtRest()

    def check_reason(self, name: str, is_violent: bool) -> None:
        reason, model = self.parties[name].reason, self.models[name]
        ended = reason.ended
        if isinstance(reason, ConnectionAborted):
            assert model.has_aborted
        elif isinstance(reason, ConnectionDone):
            assert (ended.error, ended.errno) == (None, None)
            assert model.has_closed or not model.was_reset
        else:
            assert isinstance(reason, ConnectionLost)
            # A peer that has closed reads no more. It answers what comes after its end with a reset; before that, if it
            # has itself more to send than the kernel holds, it waits for us as we do for it: until the deadline.
            has_closed = self.models[other_of(name)].has_closed
            assert ended.errno is not None or (
                ended.by is EndedBy.TIMEOUT and has_closed and model.has_closed
            )
            assert is_violent or has_closed


def other_of(name: str) -> str:
    return "server" if name == "client" else "client"


TestConversation = Conversation.TestCase
TestConversation.settings = settings(max_examples=150, stateful_step_count=25)
TestConversation = pytest.mark.timeout(120)(TestConversation)
