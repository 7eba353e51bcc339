"""A study of two cells from a TOML file, and what it says about the paper's claims (inconclusive: it is tiny)."""

import subprocess
import sys
from pathlib import Path

import sftknow_core as sk

Path("tiny.toml").write_text("""
name = "tiny"
base = "demo"
grid = { levels = [2, 4], sizes = [60], seeds = [0] }
restoring = { k = [20], controls = [], equal_energy = [], equal_projection = [] }
evaluation = { per_level = 4, train_questions = 0, baselines = false, completions = false, five_shot = false }
work = { workers = 1 }
""")
subprocess.run(
    [sys.executable, "-m", "sftknow_core.cli", "study", "run", "tiny.toml", "--cache", "cache"], check=True
)
for verdict in sk.open_study("tiny", sk.Workspace("cache")).verdicts:
    print(verdict.claim_id, verdict.title, verdict.verdict, sep=" | ")
