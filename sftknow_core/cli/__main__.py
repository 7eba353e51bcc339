"""`python -m sftknow_core.cli ...` is `sftknow ...`; it is how jobs are started (serve/jobs.py)."""

from sftknow_core.cli.app import main
from sftknow_core.serve.process import recorded

if __name__ == "__main__":
    with recorded():
        main()
