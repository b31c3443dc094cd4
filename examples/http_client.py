"""An HTTP/1.1 client: fetches a URL to stdout or into a file, on h11, which knows HTTP and no network.

    python examples/http_client.py URL [FILE]

* The body goes out as it comes in: of the largest one a single read is in memory. Where what we write to is slow, we
  read slowly, and so the server sends slowly.
* FILE is there when all of it is: until then it is FILE.part, and an answer that is cut short leaves nothing.
* Exit status 0 means: answered with 2xx, and whole. Else it is 1, and stderr says why.
"""

import os
import sys
from contextlib import contextmanager
from urllib.parse import urlsplit

import h11

import ropewalk
from ropewalk import Deferred
from ropewalk.defer import CancelledError
from ropewalk.endpoints import HostnameEndpoint
from ropewalk.task import run

PATIENCE = 30.0  # seconds, for connecting and for each piece of the answer


async def fetch(reactor, url, out):
    """Write the body of the answer to `out`."""
    place = urlsplit(url)
    if place.scheme != "http" or not place.hostname:
        raise ValueError("the URL must begin with http:// and a host")
    request = h11.Request(
        method="GET",
        target=(place.path or "/") + (f"?{place.query}" if place.query else ""),
        headers=[("Host", place.netloc.rpartition("@")[2]), ("Connection", "close")],
    )
    endpoint = HostnameEndpoint(reactor, place.hostname, place.port or 80, timeout=PATIENCE)
    async with await ropewalk.open(endpoint) as stream:
        http = h11.Connection(h11.CLIENT)
        await stream.write(http.send(request) + http.send(h11.EndOfMessage()))
        while type(event := http.next_event()) is not h11.EndOfMessage:
            if event is h11.NEED_DATA:
                reading = Deferred.fromCoroutine(stream.read())
                http.receive_data(await reading.addTimeout(PATIENCE, reactor))
            elif type(event) is h11.Response and not 200 <= event.status_code < 300:
                raise OSError(f"answered with {event.status_code} {event.reason.decode()}".rstrip())
            elif type(event) is h11.Data:
                out.write(event.data)


@contextmanager
def whole(path):
    """A file to write to; it gets its name when the block has ended well, and is removed if not."""
    with open(f"{path}.part", "wb") as file:
        try:
            yield file
            file.flush()
            os.replace(file.name, path)
        except BaseException:
            os.unlink(file.name)
            raise


def main(url, path=None):
    try:
        if path is None:
            run(fetch, url, sys.stdout.buffer)
            sys.stdout.flush()
        else:
            with whole(path) as file:
                run(fetch, url, file)
    except (OSError, ValueError, h11.ProtocolError) as error:
        sys.exit(f"{url}: {error}")
    except CancelledError:
        sys.exit(130)  # Ctrl-C


main(*sys.argv[1:] or sys.exit(__doc__))
