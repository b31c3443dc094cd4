"""The loop: time, descriptors and callables.

One turn takes thread calls, due timers and ready descriptors, in that order, and calls what was asked for. Nothing
here knows what a socket or a protocol is; the pollers are the only files that know how the kernel reports readiness.
"""
