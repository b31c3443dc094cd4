"""A load balancer for web servers, put together from the pieces, and with two of its own: weights, and a check that speaks HTTP.

    python examples/load_balancer.py 8080 localhost:8001 localhost:8002=3

Of the pieces each knows one thing. An *endpoint* connects to one place. A *Balancer* is an endpoint too: it takes
another target each time, and the next one if that does not answer. *HealthChecks* tell it who is well. A *Proxy* is the
factory for the clients: it joins each with a connection of an endpoint, and the slower side sets the pace. So each can be
left out, replaced, or used for something else: `await ropewalk.open(balancer)` is a client that nobody's death disturbs.

`ropewalk proxy` is the same without the two, with options for all the rest.
"""

import sys

import ropewalk
from ropewalk import reactor
from ropewalk.address import display
from ropewalk.balancing import Balancer, Target
from ropewalk.endpoints import HostnameEndpoint
from ropewalk.health import HealthChecks
from ropewalk.proxying import Proxy


def target(text):
    """The target that "host:port=weight" names; of one without a weight that is 1."""
    place, _, weight = text.partition("=")
    host, _, port = place.rpartition(":")
    made = Target(HostnameEndpoint(reactor, host, int(port), timeout=3), place)
    made.weight = int(weight or 1)
    return made


def lightest(targets):
    """A policy: who has the fewest connections for its weight comes first, and of equals each in its turn."""
    return sorted(targets, key=lambda each: (each.connections + 1) / each.weight)


async def answers_well(endpoint):
    """A health check: a web server that is up but answers 500 to everything is no use to anybody."""
    async with await ropewalk.open(endpoint) as stream:
        await stream.write(b"GET / HTTP/1.0\r\n\r\n")
        version, status, *_ = (await stream.readUntil(b"\r\n", limit=1000)).split()
        return version.startswith(b"HTTP/") and status < b"500"


def tell(changed):
    """Called for a target that has gone down or come up."""
    print(changed.name, "is up" if changed.isUp else f"is down: {changed.reason}", flush=True)


balancer = Balancer(map(target, sys.argv[2:]), policy=lightest, changed=tell)
checks = HealthChecks(balancer, seconds=2, health=answers_well)
proxy = Proxy(balancer, limit=500)
port = reactor.listenTCP(int(sys.argv[1]), proxy, interface="127.0.0.1")
proxy.listens(port)

reactor.callWhenRunning(checks.startService)
# At Ctrl-C or SIGTERM the reactor waits for what these give: ten seconds, so that downloads may end.
reactor.addSystemEventTrigger("before", "shutdown", checks.stopService)
reactor.addSystemEventTrigger("before", "shutdown", proxy.drain, 10)

print("listening on", display(port.getHost()), flush=True)
reactor.run()
