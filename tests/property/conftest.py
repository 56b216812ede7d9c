"""How hypothesis runs: the same examples every time, so that a test that passes here passes everywhere.

`HOLDFAST_EXPLORE=2000 ./dev test tests/property` looks at that many new examples per test instead; what it finds
belongs into the test as an `@example`.
"""

import os

from hypothesis import settings

settings.register_profile("exact", derandomize=True, deadline=None, database=None, max_examples=200)
EXPLORE = int(os.environ.get("HOLDFAST_EXPLORE", "0"))
settings.register_profile("explore", deadline=None, max_examples=max(EXPLORE, 1))
settings.load_profile("explore" if EXPLORE else "exact")
