"""A client of redis: pipelined commands over a pool of connections, whatever becomes of the server. hiredis knows RESP.

    python examples/redis_client.py [HOST [PORT [SECONDS]]]

Ten workers count in one key, and a line every SECONDS says how far they are. Kill the server, and start it again.

* Replies come in the order of the commands, so a connection is a queue of those who wait. Each of them is told: a reply,
  an error reply, why the connection ended, or that it took too long. Nobody waits for ever.
* Of a command that failed on its way nobody knows whether it was done. So it is not sent again here: who sent it decides.
* A connection that is lost is no longer in the pool. The next who asks has a new one made, or is told why that failed,
  and asks again a little later.
"""

import sys
from collections import deque

import hiredis

from ropewalk import Deferred, Factory, Protocol, fail
from ropewalk.defer import FirstError, gatherResults
from ropewalk.endpoints import HostnameEndpoint
from ropewalk.pool import Pool
from ropewalk.service import backoffPolicy
from ropewalk.task import LoopingCall, react, sleep

MORE = object()  # what the reader gives while a reply is not complete


class Redis(Protocol):
    """One connection."""

    patience = 10.0  # seconds that a reply may take
    most = 64 << 20  # bytes that may wait to be sent; above that the server is given up

    def __init__(self):
        self.reader = hiredis.Reader(notEnoughData=MORE)
        self.waiting = deque()
        self.reason = None

    def connectionMade(self):
        self.transport.setWriteLimits(high=65536, hard=self.most)

    def command(self, *words):
        """Send it.

        Args:    words: str, bytes or numbers.
        Returns: a Deferred of the reply. To cancel it ends the connection, as the reply is still to come.
        Fails:   hiredis.ReplyError; TimeoutError; why the connection ended.
        """
        if self.reason is not None:
            return fail(self.reason)
        data = hiredis.pack_command(words)
        answer = Deferred(lambda _: self.transport.abortConnection())
        self.waiting.append(answer)
        self.transport.write(data)
        return answer.addTimeout(self.patience, self.transport.reactor)

    async def pipeline(self, *commands):
        """Send them all at once. Returns: the replies. Raises: the first error among them."""
        try:
            return await gatherResults([self.command(*each) for each in commands], consumeErrors=True)
        except FirstError as first:
            raise first.subFailure.value from None

    def dataReceived(self, data):
        self.reader.feed(data)
        while (reply := self.reader.gets()) is not MORE:
            answer = self.waiting.popleft()
            if isinstance(reply, hiredis.ReplyError):
                answer.errback(reply)
            else:
                answer.callback(reply)

    def connectionLost(self, reason):
        self.reason = reason
        while self.waiting:
            answer = self.waiting.popleft()
            if not answer.called:  # the one that was cancelled is
                answer.errback(reason)


class Counting:
    """Workers that count in a key, ten at a time, and what came of it."""

    def __init__(self, pool, key):
        self.pool = pool
        self.key = key
        self.counted = 0
        self.trouble = None

    async def work(self):
        pause = backoffPolicy(initialDelay=0.05, maxDelay=1.0)
        failures = 0
        while True:
            try:
                async with self.pool.connection() as redis:
                    replies = await redis.pipeline(*[("INCR", self.key)] * 10)
            except (OSError, hiredis.HiredisError) as error:
                failures += 1
                self.trouble = error
                await sleep(pause(failures))
            else:
                failures = 0
                self.counted += len(replies)

    def tell(self):
        trouble, self.trouble = self.trouble, None
        print("counted", self.counted, "" if trouble is None else f"in trouble: {trouble}", flush=True)


async def main(reactor, host="localhost", port="6379", seconds="1"):
    pool = Pool(HostnameEndpoint(reactor, host, int(port), timeout=5), Factory.forProtocol(Redis), size=3)
    counting = Counting(pool, "rope:count")
    workers = [Deferred.fromCoroutine(counting.work()) for _ in range(10)]
    LoopingCall(counting.tell).start(float(seconds), now=False)
    await gatherResults(workers)  # until Ctrl-C


if __name__ == "__main__":
    react(main, sys.argv[1:])
