"""The claims, by topic: what is told and when, bytes, endings, half-close, reasons, and flow.

Each module has a list `CLAIMS`. A new claim is a function there; `claim.py` says what its decorator takes.
"""
