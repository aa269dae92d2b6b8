"""One database of orders on MariaDB, from "its server is down" to "in use"."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING

from example_app import mariadb
from example_app.failures import DatabaseUnavailable, NotReached
from example_app.orders import mariadb_layout as layout

if TYPE_CHECKING:
    from sqlalchemy import URL

    from example_app.orders.mariadb_made import Made

_log = logging.getLogger(__name__)


class Opening:
    """Makes a database that is new, and brings one that is old to this version; once.

    :param database: on its server.
    :param made: knows which databases were made, so that one that was dropped is not made again.
    """

    def __init__(self, database: URL, made: Made) -> None:
        self.name = database.database or ""
        self.server = mariadb.server_of(database)
        self._database = database
        self._made = made
        self._lock = threading.Lock()
        self._is_open = False
        self._tries = 0
        self._error = ""

    def open(self) -> None:
        """Make sure that it is there, in this version's layout; `ready` has nothing to do then.

        :raises NotReached: it is to be waited for: a server is down.
        :raises DatabaseUnavailable: it was dropped or emptied, or its server refuses us.
        """
        found = layout.look(self._database)
        if found.version is None:
            self._let_be_new()
        if not layout.is_this_one(found.version):
            layout.migrate(self._database)
            found = layout.look(self._database)
        if not found.is_whole:
            raise mariadb.gone(self._database)
        self._is_open = True

    def ready(self) -> None:
        """Open it, unless it is open; of many threads one does it, and the others wait for that.

        :raises DatabaseUnavailable: it cannot be opened now; the next call tries again.
        """
        before = self._tries
        if self._is_open:
            return
        with self._lock:
            if self._tries != before:
                # Whoever had the lock has tried; each would else wait as long again.
                if self._error:
                    raise DatabaseUnavailable(self._error)
                return
            try:
                self.open()
                self._made.note([self.name])
                self._error = ""
            except Exception as error:
                self._error = str(error)
                raise
            finally:
                self._tries += 1
            _log.warning("%s: %s is there", mariadb.shown(self.server), self.name)

    def _let_be_new(self) -> None:
        told = self._made.ask()
        # Asked for again: another process may have made and noted it in between.
        if layout.look(self._database).version is not None:
            return
        if self.name in told.noted:
            raise mariadb.gone(self._database)
        if told.silent:
            silent = ", ".join(map(mariadb.shown, told.silent))
            raise NotReached(
                f"{mariadb.shown(self.server)}: {self.name} is not there, and whether it ever was "
                f"may be known to who does not answer: {silent}"
            )
        layout.create(self._database)
