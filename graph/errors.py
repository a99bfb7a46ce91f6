"""Errors of the graph side; this package knows nothing of the runtime, so it has its own base class."""


class GraphError(Exception):
    """A model that cannot be read, shaped or planned; the message names the node and what is missing."""
