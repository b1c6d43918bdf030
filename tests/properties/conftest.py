"""Random inputs are the same in every run; with SHMPOOL_PROVE=1 others each time."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

settings.register_profile(
    "shmpool",
    derandomize=os.environ.get("SHMPOOL_PROVE") != "1",
    database=None,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],  # it says something of the machine
)
settings.load_profile("shmpool")
