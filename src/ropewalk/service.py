"""Services: parts of a program that are started and stopped; and the one that stays connected.

    service = ClientService(clientFromString(reactor, "tcp:example.org:80"), factory)
    service.startService()
    protocol = await service.whenConnected()
    ...
    await service.stopService()

A MultiService starts its services in order, and stops them in the reverse order: each when the one after it has stopped, so
that what others depend on outlives them. One that fails to stop is told, and hinders no other.

StreamServerEndpointService listens while it runs. ClientService has one connection at a time. It is a small machine over
attempts (attempt.py): each is told once when it is made and once when it is over, and between two of them is one timer, whose
seconds a policy decides (backoff.py). It must never know what kind of endpoint it has, nor look at a connection by itself.

Source: twisted.application.service and twisted.application.internet; their names and order. Different on purpose: a stop while
connecting that is followed by a start connects anew; a name taken already leaves the service without that parent.
"""

from __future__ import annotations

import logging
import random as python_random
from collections.abc import Callable, Iterator
from enum import StrEnum
from inspect import isawaitable, iscoroutine
from typing import Any

from ropewalk.attempt import Attempt, Prepare, clockOf
from ropewalk.backoff import backoffPolicy, seconds_to_wait
from ropewalk.defer import CancelledError, Deferred, fail, maybeDeferred, succeed
from ropewalk.defer.making import born
from ropewalk.failure import Failure
from ropewalk.machine import Table
from ropewalk.policies.wrapping import checked_count

__all__ = ["ClientService", "MultiService", "Service", "StreamServerEndpointService", "backoffPolicy"]

_log = logging.getLogger("ropewalk")


class Service:
    """A part of a program that is started and stopped; subclass it. Source: IService."""

    name: str | None = None
    running: bool = False
    parent: Any = None

    def setName(self, name: str) -> None:
        """Give it a name.

        Raises: RuntimeError if it has a parent already.
        """
        if self.parent is not None:
            raise RuntimeError("a service that has a parent keeps its name")
        self.name = name

    def setServiceParent(self, parent: Any) -> None:
        """Make it one of the services of a MultiService; the parent it had before loses it.

        Raises: RuntimeError if the parent has one of that name; then it has no parent.
        Order:  if the parent runs, the service is started before this returns.
        """
        if self.parent is not None:
            self.disownServiceParent()
        self.parent = parent
        try:
            parent.addService(self)
        except BaseException:
            if self not in list(parent):
                self.parent = None
            raise

    def disownServiceParent(self) -> Any:
        """Leave the parent.

        Returns: what stopService returned, if the parent runs; else None.
        """
        stopped = self.parent.removeService(self)
        self.parent = None
        return stopped

    def privilegedStartService(self) -> None:
        """Called before startService: what must be done before privileges are given up."""

    def startService(self) -> None:
        """Start. Call it from your own."""
        self.running = True

    def stopService(self) -> Any:
        """Stop. Call it from your own.

        Returns: None, or a Deferred or coroutine that ends when it has stopped.
        """
        self.running = False


class MultiService(Service):
    """A service that is made of services. Iterate over it to see them. Source: IServiceCollection."""

    def __init__(self) -> None:
        self.services: list[Any] = []
        self.namedServices: dict[str, Any] = {}
        # Those that have yet to be started, by the start under way; and what that gave out.
        self._to_start: list[Any] = []
        self._starting: Deferred[None] | None = None
        # Those that have yet to be asked to stop; and who else waits for the stop under way, None if there is none.
        self._to_stop: list[Any] = []
        self._until_stopped: list[Deferred[list[tuple[bool, Any]]]] | None = None

    def __iter__(self) -> Iterator[Any]:
        return iter(self.services)

    def privilegedStartService(self) -> None:
        for service in list(self.services):
            service.privilegedStartService()

    def startService(self) -> Deferred[None] | None:  # type: ignore[override]
        """Start all, in order. One whose startService gives something to await has started when that has ended.

        Returns: a Deferred, if it has to wait for one of them, or for a stop: it ends when all have started.
        Raises:  what one of them raises; those after it are not started, and stopService stops those before it.
        Fails:   likewise, where it had to wait before.
        """
        super().startService()
        self._to_start = list(self.services)
        started = Deferred.fromCoroutine(self._start_in_order(self._to_start))
        if not started.called:
            self._starting = started
            return started
        failures: list[Failure] = []
        started.addErrback(failures.append)
        for failure in failures:
            failure.raiseException()
        return None

    async def _start_in_order(self, services: list[Any]) -> None:
        try:
            if self._until_stopped is not None:
                await self._stopped()
            while services:
                started = services.pop(0).startService()
                if isawaitable(started):
                    await started
        except CancelledError:
            # Why asked: who is stopped while it starts calls that off.
            if services is self._to_start:
                raise

    def _call_start_off(self) -> None:
        self._to_start.clear()
        self._to_start = []
        starting, self._starting = self._starting, None
        if starting is not None:
            starting.cancel()

    def stopService(self) -> Deferred[list[tuple[bool, Any]]]:
        """Stop all, the last first: each is asked when the one after it has stopped.

        Returns: a Deferred that fires when all have stopped, with (True, result) or (False, Failure) of each, the last
                 first. It never fails: each error is logged. Cancelling it gives up the one it waits for, and goes on.
        Order:   a stop while one is under way asks none again, and has the same outcome; a start waits for its end.
        """
        super().stopService()
        self._call_start_off()
        if self._until_stopped is not None:
            return self._stopped()
        self._until_stopped = []
        self._to_stop = list(reversed(self.services))
        return Deferred.fromCoroutine(self._stop_in_order())

    async def _stop_in_order(self) -> list[tuple[bool, Any]]:
        outcomes = []
        try:
            while self._to_stop:
                each = self._to_stop.pop(0)
                stopping = maybeDeferred(each.stopService)
                outcomes.append(
                    await stopping.addCallbacks(lambda result: (True, result), _told, errbackArgs=(each,))
                )
        finally:
            # Why in any case: one may exit, or drop what it gave out; who waits must not wait for ever.
            waiting, self._until_stopped = self._until_stopped or [], None
            for waits in waiting:
                waits.callback(list(outcomes))
        return outcomes

    def _stopped(self) -> Deferred[list[tuple[bool, Any]]]:
        """For one who waits for the stop under way, and cannot call it off."""
        assert self._until_stopped is not None
        waits: Deferred[list[tuple[bool, Any]]] = Deferred()
        self._until_stopped.append(waits)
        return waits

    def getServiceNamed(self, name: str) -> Any:
        """The service of that name. Raises: KeyError."""
        return self.namedServices[name]

    def addService(self, service: Any) -> None:
        """For `setServiceParent` of a service. Raises: RuntimeError if there is one of that name."""
        if service.name is not None:
            if service.name in self.namedServices:
                raise RuntimeError(f"there is a service named {service.name!r} already")
            self.namedServices[service.name] = service
        self.services.append(service)
        if self.running:
            service.privilegedStartService()
            started = service.startService()
            if iscoroutine(started):
                Deferred.fromCoroutine(started)  # Safe because: an error is logged.

    def removeService(self, service: Any) -> Any:
        """For `disownServiceParent` of a service.

        Returns: what its stopService returned, if this runs, or stops and has not asked it yet; else None.
        Raises:  ValueError if it is not one of these.
        """
        self.services.remove(service)
        is_to_stop = self.running or service in self._to_stop
        if service in self._to_stop:
            self._to_stop.remove(service)
        if service in self._to_start:
            self._to_start.remove(service)
        if service.name is not None:
            del self.namedServices[service.name]
        return service.stopService() if is_to_stop else None


def _told(reason: Failure, service: Any) -> tuple[bool, Failure]:
    _log.error("stopping %r failed", service, exc_info=reason.value)
    return False, reason


# ---- listening ------------------------------------------------------------------------------------------------------


class StreamServerEndpointService(Service):
    """A service that listens while it runs.

    Args:   endpoint: where; `serverFromString` makes one.
            factory: whose protocols serve.
    Source: twisted.application.internet.StreamServerEndpointService.
    """

    def __init__(self, endpoint: Any, factory: Any) -> None:
        self.endpoint = endpoint
        self.factory = factory
        self.port: Any = None
        self._listening: Deferred[None] | None = None

    def privilegedStartService(self) -> None:
        """Listen already: the port may be one for which privileges are needed."""
        listening = self._listening
        if listening is None or (listening.called and self.port is None):
            if listening is not None:
                listening.addErrback(lambda _: None)  # Why: it failed, and is tried again.
            self._listening = Deferred.fromCoroutine(self._listen())

    def startService(self) -> Deferred[None]:  # type: ignore[override]
        """Listen, unless it does already.

        Returns: a Deferred that ends when it listens.
        Fails:   what the endpoint fails with: CannotListenError, if somebody else has the port.
        """
        super().startService()
        self.privilegedStartService()
        return Deferred.fromCoroutine(self._listens())

    def stopService(self) -> Deferred[None]:
        """Listen no more; connections are left alone. Returns: a Deferred that ends when the port is closed."""
        super().stopService()
        listening, self._listening = self._listening, None
        if listening is not None:
            listening.cancel()
            listening.addErrback(lambda _: None)  # Why: who has started it was told.
        port, self.port = self.port, None
        return succeed(None) if port is None else maybeDeferred(port.stopListening)

    async def _listen(self) -> None:
        self.port = await self.endpoint.listen(self.factory)

    async def _listens(self) -> None:
        try:
            if self._listening is not None:
                await self._listening
        except CancelledError:
            if self.running:
                raise


# ---- staying connected ------------------------------------------------------------------------------------------


class ClientState(StrEnum):
    NEW = "new"
    CONNECTING = "connecting"
    CONNECTED = "connected"
    WAITING = "waiting"
    DISCONNECTING = "disconnecting"
    RESTARTING = "restarting"
    STOPPED = "stopped"


class ClientEvent(StrEnum):
    START = "start"
    STOP = "stop"
    MADE = "made"
    # The attempt is over, as failed or as lost; nothing of it is open.
    ENDED = "ended"
    RETRY = "retry"


CLIENT = Table(
    "ClientService",
    {
        (ClientState.NEW, ClientEvent.START): ClientState.CONNECTING,
        (ClientState.NEW, ClientEvent.STOP): ClientState.STOPPED,
        (ClientState.CONNECTING, ClientEvent.MADE): ClientState.CONNECTED,
        (ClientState.CONNECTING, ClientEvent.ENDED): ClientState.WAITING,
        (ClientState.CONNECTING, ClientEvent.STOP): ClientState.DISCONNECTING,
        (ClientState.CONNECTED, ClientEvent.ENDED): ClientState.WAITING,
        (ClientState.CONNECTED, ClientEvent.STOP): ClientState.DISCONNECTING,
        (ClientState.WAITING, ClientEvent.RETRY): ClientState.CONNECTING,
        (ClientState.WAITING, ClientEvent.STOP): ClientState.STOPPED,
        (ClientState.DISCONNECTING, ClientEvent.START): ClientState.RESTARTING,
        (ClientState.DISCONNECTING, ClientEvent.STOP): ClientState.DISCONNECTING,
        (ClientState.DISCONNECTING, ClientEvent.ENDED): ClientState.STOPPED,
        (ClientState.RESTARTING, ClientEvent.STOP): ClientState.DISCONNECTING,
        (ClientState.RESTARTING, ClientEvent.ENDED): ClientState.CONNECTING,
        (ClientState.STOPPED, ClientEvent.START): ClientState.CONNECTING,
        (ClientState.STOPPED, ClientEvent.STOP): ClientState.STOPPED,
    },
)


class ClientService(Service):
    """A service that keeps one connection: made again when it fails or is lost.

    Args:   endpoint: where to.
            factory: builds the protocol of each connection.
            retryPolicy: given the failures in a row (from 1; a loss is one too), says the seconds to wait; None for
                `backoffPolicy()`, which also steps in, and that is logged, for one that raises or says no number.
            clock: has `callLater`; None for the endpoint's reactor, or `task.currentReactor`.
            prepareConnection: called with each protocol that is connected, before anybody else has it; may return an
                awaitable. If that fails, or the connection is lost meanwhile, the attempt has failed, and is closed.
    Source: twisted.application.internet.ClientService. Each decision is logged by "ropewalk" at DEBUG.
    """

    def __init__(
        self,
        endpoint: Any,
        factory: Any,
        retryPolicy: Callable[[int], float] | None = None,
        clock: Any = None,
        prepareConnection: Prepare | None = None,
    ) -> None:
        self._endpoint = endpoint
        self._factory = factory
        self._policy = backoffPolicy() if retryPolicy is None else retryPolicy
        self._clock = clock
        self._prepare = prepareConnection
        self._state = ClientState.NEW
        self._attempt: Attempt | None = None
        self._timer: Any = None
        self._failures = 0
        # Those who wait for a connection, each with the failures it still bears (None: any).
        self._waiting: list[tuple[Deferred[Any], int | None]] = []
        self._stopping: list[Deferred[None]] = []

    def startService(self) -> None:
        """Connect, and stay connected. If it runs already, nothing but a warning."""
        if self.running:
            _log.warning("%r runs already", self)
            return
        super().startService()
        self._step(ClientEvent.START)
        if self._state is ClientState.CONNECTING:
            self._connect()

    def stopService(self) -> Deferred[None]:
        """Connect no more, and close the connection.

        Returns: a Deferred that fires when nothing is open.
        Order:   who waits in whenConnected gets CancelledError, when it has stopped.
        """
        super().stopService()
        was, attempt = self._state, self._attempt
        self._step(ClientEvent.STOP)
        if self._state is ClientState.STOPPED:
            # Why asked: there is none yet while the policy says how long to wait, and it may stop us just then.
            timer, self._timer = self._timer, None
            if timer is not None:
                timer.cancel()
            self._stopped()
            return succeed(None)
        stopped: Deferred[None] = Deferred()
        self._stopping.append(stopped)
        if attempt is not None and was is ClientState.CONNECTING:
            attempt.cancel()
        elif attempt is not None and was is ClientState.CONNECTED:
            attempt.close()
        return stopped

    def whenConnected(self, failAfterFailures: int | None = None) -> Deferred[Any]:
        """The protocol of the connection, as soon as there is one.

        Args:    failAfterFailures: give up after so many failed attempts from now on; None never to.
        Returns: a Deferred of the protocol, that has fired already when it is connected.
        Raises:  TypeError, ValueError for anything else than None or a whole number, 1 or more.
        Fails:   with the reason of the last of those attempts; CancelledError when the service is stopped.
        """
        if failAfterFailures is not None:
            checked_count("failAfterFailures", failAfterFailures, "failures")
        if self._state is ClientState.STOPPED:
            return fail(CancelledError())
        if self._state is ClientState.CONNECTED and self._attempt is not None and self._attempt.is_open:
            return succeed(self._attempt.protocol)
        waiting: Deferred[Any] = born(Deferred(self._forget))
        self._waiting.append((waiting, failAfterFailures))
        return waiting

    def _forget(self, cancelled: Deferred[Any]) -> None:
        self._waiting = [row for row in self._waiting if row[0] is not cancelled]

    # ---- what an Attempt tells --------------------------------------------------------------------------------

    def made(self, attempt: Attempt) -> None:
        self._step(ClientEvent.MADE)
        self._failures = 0
        waiting, self._waiting = self._waiting, []
        for each, _ in waiting:
            # Why asked: one of them may have cancelled another.
            if not each.called:
                each.callback(attempt.protocol)

    def ended(self, attempt: Attempt, reason: Failure) -> None:
        self._attempt = None
        was = self._state
        self._step(ClientEvent.ENDED)
        if self._state is ClientState.WAITING:
            self._wait(reason)
            if was is ClientState.CONNECTING:
                self._tell_failure(reason)
        elif self._state is ClientState.STOPPED:
            self._stopped()
        else:
            stopping, self._stopping = self._stopping, []
            self._connect()
            for each in stopping:
                each.callback(None)

    # ---- inside -----------------------------------------------------------------------------------------------

    def _step(self, event: ClientEvent) -> None:
        self._state = CLIENT[self._state, event]

    def _connect(self) -> None:
        self._timer = None
        self._attempt = attempt = Attempt(self)
        attempt.start(self._endpoint, self._factory, self._prepare)

    def _retry(self) -> None:
        self._step(ClientEvent.RETRY)
        self._connect()

    def _wait(self, reason: Failure) -> None:
        self._failures += 1
        clock = self._reactor()
        seconds = seconds_to_wait(self._policy, self._failures, getattr(clock, "random", python_random))
        if self._state is not ClientState.WAITING:
            return  # Safe because: the policy has stopped us, or begun anew, which is its user's right.
        _log.debug(
            "%r tries again in %.3f s, after %d in vain: %r", self, seconds, self._failures, reason.value
        )
        self._timer = clock.callLater(seconds, self._retry)

    def _tell_failure(self, reason: Failure) -> None:
        waiting, self._waiting = self._waiting, []
        told = []
        for each, left in waiting:
            if left is not None and left <= 1:
                told.append(each)
            else:
                self._waiting.append((each, None if left is None else left - 1))
        for each in told:
            if not each.called:
                each.errback(reason)

    def _stopped(self) -> None:
        waiting, self._waiting = self._waiting, []
        stopping, self._stopping = self._stopping, []
        for each, _ in waiting:
            if not each.called:
                each.errback(CancelledError())
        for stopped in stopping:
            stopped.callback(None)

    def _reactor(self) -> Any:
        if self._clock is None:
            self._clock = clockOf(self._endpoint)
        return self._clock

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._endpoint!r} {self._state.value}>"
