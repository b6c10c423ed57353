"""The embedded stack of `make run`: every part of the portal on one machine, for trying it out.

A demo, not a security boundary: all parts run under one user id. Production settings never use it.
"""
