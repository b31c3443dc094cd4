"""The net: connectors, dials, streams and listeners.

What is here knows sockets, and reaches them only through the reactor's system; how the kernel reports readiness it
never knows. Each state has its table directly above the class that lives by it.
"""
