"""Rate limits of a portal that many tests share: what one test's person did is no other's, once the tables are empty again."""

from datetime import datetime

from accounts.rate_limits import Kept, OwnLimits, RateLimits


class NoneOfItsOwn(OwnLimits):
    def get(self, name: str) -> Kept | None:
        return None

    def keep(self, name: str, held: str, ends_at: datetime) -> None:
        pass


class SharedLimits(RateLimits):
    own = NoneOfItsOwn()
