"""What all tests share."""

from __future__ import annotations

import os

from sftknow_core.runs.jobs import NICE_VARIABLE

os.environ[NICE_VARIABLE] = "0"  # tests run side by side and wait for the jobs they start
