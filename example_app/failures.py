"""What may go wrong between processes, told apart by whether waiting helps."""

from __future__ import annotations


class TemporarilyUnavailable(Exception):
    """Something that is needed is not there at the moment: the same may work later."""


class CallFailed(TemporarilyUnavailable):
    """A call got no answer, none in time, or the answer that the service itself has failed."""


class DatabaseUnavailable(TemporarilyUnavailable):
    """A database is locked, broken or gone; the message names its place, for the log only."""


class NotReached(DatabaseUnavailable):
    """A database's server is down or does not answer: nobody needs to do anything but wait."""


class RolledBack(TemporarilyUnavailable):
    """The database rolled a transaction back because of another one; retried it may succeed."""


class BusUnavailable(TemporarilyUnavailable):
    """The bus takes nothing, or gives nothing, at the moment."""
