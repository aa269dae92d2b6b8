"""A provider without money, with magic ids, as payment providers have magic card numbers.

Users whose id starts with ``BROKE`` do not pay; for orders whose id starts with ``SLOW`` the answer
takes two seconds.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from example_app.payments.messages import Authorisation

_SLOW_S = 2.0


class SandboxProvider:
    """A `Provider` for tests and demos."""

    def is_good(self, asked: Authorisation) -> bool:
        """Whether the user pays."""
        if asked.order_id.startswith("SLOW"):
            time.sleep(_SLOW_S)
        return not asked.user_id.startswith("BROKE")
