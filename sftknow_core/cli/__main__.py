"""`python -m sftknow_core.cli ...` is `sftknow ...`; it is how jobs are started (runs/jobs.py)."""

from sftknow_core.cli import main
from sftknow_core.runs.job_process import recorded

if __name__ == "__main__":
    with recorded():
        main()
