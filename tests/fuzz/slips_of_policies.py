"""The slips of policies that planted.py plants, as slips.py has them of the engine."""

from __future__ import annotations

from tests.fuzz.slips import Bug

WRAPPING = "policies/wrapping.py"
LIMITS = "policies/limits.py"
RATES = "policies/rates.py"
TIMEOUTS = "policies/timeouts.py"
BUDGET = "policies/budget.py"

SLIPS_OF_POLICIES = (
    Bug(
        "limit-lets-one-more-in",
        LIMITS,
        "off by one: full is taken for one more than full",
        (("len(self.protocols) >= self.most", "len(self.protocols) > self.most"),),
    ),
    Bug(
        "limit-counts-a-peer-for-ever",
        LIMITS,
        "Twisted's LimitConnectionsByPeer counts attempts: who was refused, or has gone, keeps a place",
        (
            (
                "        self._peers[peer] -= 1\n        if not self._peers[peer]:\n            del self._peers[peer]\n",
                "        if peer is None:\n            del self._peers[peer]\n",
            ),
        ),
    ),
    Bug(
        "bucket-fills-without-end",
        "policies/bucket.py",
        "a pause is saved up, and spent at once",
        (
            (
                "self._tokens = min(self.burst, self._tokens + (now - self._time) * self.rate)",
                "self._tokens += (now - self._time) * self.rate",
            ),
        ),
    ),
    Bug(
        "bucket-shared-but-asked-alone",
        "policies/bucket.py",
        "each that shares a rate is let through as if it were alone",
        (
            (
                "            self._tokens -= count\n",
                "            self._tokens -= count if self._reserved == count else 0\n",
            ),
        ),
    ),
    Bug(
        "rate-limit-closes-before-what-is-held-has-left",
        RATES,
        "Twisted's ThrottlingProtocol: loseConnection goes straight to the transport, what waits is lost",
        (
            (
                "    def loseConnection(self) -> None:\n        self._hear_no_more()\n",
                "    def loseConnection(self) -> None:\n        self._hear_no_more()\n        self._outgoing.clear()\n",
            ),
        ),
    ),
    Bug(
        "rate-limit-resumes-what-the-user-has-paused",
        RATES,
        "the layer's own pause and the protocol's are one flag",
        (
            (
                "            while self._incoming and not (self._is_paused or self._is_deaf):\n",
                "            while self._incoming and not self._is_deaf:\n",
            ),
        ),
    ),
    Bug(
        "rate-limit-hands-on-after-a-close",
        RATES,
        "CONTRACT section 5: after loseConnection no more dataReceived; the timer has not heard of it",
        (
            (
                '        self._is_deaf = True\n        self._thrown_away += len(self._incoming)\n        self._incoming = b""\n',
                "        self._thrown_away += 0\n",
            ),
        ),
    ),
    Bug(
        "close-deadline-runs-while-a-layer-holds",
        RATES,
        "C6: the peer takes all there is, and is given up for what a rate holds back",
        (
            (
                "        if self._outgoing and transport.connected and not transport.bytesBuffered:\n",
                "        if self._outgoing and not transport.connected:\n",
            ),
        ),
    ),
    Bug(
        "rate-limit-forgets-the-producer-it-has-paused",
        RATES,
        "J6: low water 0 is undercut by the transport, and nobody asks what the layer holds",
        (
            (
                "            if self._is_paused and layer.bytesBuffered <= layer.limits[1]:\n",
                "            if self._is_paused and layer.bytesBuffered < layer.limits[1]:\n",
            ),
        ),
    ),
    Bug(
        "rate-limit-leaves-its-timer",
        "policies/lane.py",
        "I5: the connection has ended, and the timer of its next piece has not",
        (
            (
                "        if timer is not None and timer.active():\n            timer.cancel()\n",
                "        if timer is None:\n            return\n",
            ),
        ),
    ),
    Bug(
        "what-was-thrown-away-counts-as-received",
        RATES,
        "found by this swarm: a close throws away what is held, and the count says that the protocol had it",
        (
            (
                "        return int(self.transport.bytesReceived) - len(self._incoming) - self._thrown_away\n",
                "        return int(self.transport.bytesReceived) - len(self._incoming)\n",
            ),
        ),
    ),
    Bug(
        "idle-is-who-only-writes",
        TIMEOUTS,
        "Twisted's TimeoutProtocol before writeSequence was seen: a server that only sends is cut off",
        (
            (
                (
                    "    def writeSequence(self, data: Iterable[bytes | bytearray | memoryview]) -> None:\n"
                    '        """Send several pieces, as `write` does; that is no idleness."""\n'
                    "        self.resetTimeout()\n        self.transport.writeSequence(data)\n\n"
                    "    def stirInside(self, held: int) -> None:\n        self.resetTimeout()\n"
                ),
                "    def stirInside(self, held: int) -> None:\n",
            ),
            (
                "    def write(self, data: bytes | bytearray | memoryview) -> None:\n        self.resetTimeout()\n",
                "    def write(self, data: bytes | bytearray | memoryview) -> None:\n",
            ),
        ),
    ),
    Bug(
        "idle-timer-outlives-the-connection",
        TIMEOUTS,
        "E3: connectionLost does not cancel the timer",
        (
            (
                "    def connectionLost(self, reason: Failure) -> None:\n        self.cancelTimeout()\n",
                "    def connectionLost(self, reason: Failure) -> None:\n",
            ),
        ),
    ),
    Bug(
        "idle-looks-once",
        TIMEOUTS,
        "the look that came too early is not repeated; who goes silent later stays for ever",
        (
            (
                "        if left > 0:\n            self._wait(left)\n            return\n",
                "        if left > 0:\n            return\n",
            ),
        ),
    ),
    Bug(
        "lifetime-without-its-grace",
        TIMEOUTS,
        "who does not read keeps a connection beyond its lifetime: a close that waits is not followed by an abort",
        (
            (
                "        self._timer = self.clock.callLater(self.factory.grace, self._is_too_late)\n",
                "        self._timer = None\n",
            ),
        ),
    ),
    Bug(
        "shed-knows-only-the-transport",
        BUDGET,
        "what layers hold is memory as well, and nobody counts it",
        (("int(self.bytesBuffered) + self.heldInside", "int(self.bytesBuffered)"),),
    ),
    Bug(
        "shed-those-who-hold-least",
        BUDGET,
        "the wrong end of the order: who reads is aborted, who does not stays",
        (
            (
                "            greediest = max(held, key=held.__getitem__)\n",
                "            greediest = min(held, key=held.__getitem__)\n",
            ),
        ),
    ),
    Bug(
        "traffic-without-the-pieces-of-a-sequence",
        "policies/traffic.py",
        "writeSequence passes by the log",
        (
            (
                '        for piece in pieces:\n            self._tell(f"-> {self.factory.shown(piece)}")\n',
                "",
            ),
        ),
    ),
    Bug(
        "layer-hides-how-its-protocol-half-closes",
        WRAPPING,
        "Twisted's ProtocolWrapper provides no IHalfCloseableProtocol: the peer's end of its side closes both",
        (('frozenset({"readConnectionLost", ', "frozenset({"),),
    ),
    Bug(
        "layer-gives-another-s-reason-for-an-end",
        WRAPPING,
        "the words of the policy also where the peer was sooner",
        (
            (
                "        if why is None or ended is None or ended.by not in _OURS:\n            return reason  #",
                "        if why is None or ended is None:\n            return reason  #",
            ),
        ),
    ),
)
