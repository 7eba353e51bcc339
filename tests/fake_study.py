"""A study made up from a formula: which share of a test level's questions each state answers rightly.

Every question has one place u in (0, 1), the same for all models; a seed moves it a little. A state answers rightly
the questions whose place lies below its accuracy, so states pair as closely as real ones do, and accuracies are known.
"""

import numpy as np
import pandas as pd

from sftknow_core.analysis.grid import StudyTables

LEVELS = ("0", "1", "2", "3", "4")
SIZES = ("60", "240", "1920")
SEEDS = (3, 4, 5)
KS = (0.0, 20.0, 60.0)


def make(
    accuracy,
    *,
    levels=LEVELS,
    sizes=SIZES,
    seeds=SEEDS,
    ks=KS,
    chosen=20.0,
    per_level=120,
    noise=0.02,
    train_accuracy=None,
    kl=None,
    concentration=None,
    prompts=("qa",),
    strategies=("top",),
    n_train=250,
):
    """accuracy(level, size, k, test_level, strategy) -> share right, 0 to 1; the same for dev and test.

    train_accuracy(level, size, k), kl(level, size) in nats, concentration(k) -> (share, null): None leaves them out.
    The null's permutations have an sd of 2 points, so the middle 95% are 4 points on either side.
    """
    rng = np.random.default_rng(0)
    place = (np.arange(per_level) + 0.5) / per_level
    chains, states, answers, shifts, found = [], [], [], [], []
    for level in levels:
        for size in sizes:
            for seed in seeds:
                chain = f"{level}-{size}-{seed}"
                chains.append((chain, level, size, int(size) if size.isdigit() else 9999, seed, "full"))
                moved = rng.normal(0, noise, (2, 5, per_level))
                for strategy in strategies:
                    for k in ks:
                        if k == 0 and strategy != strategies[0]:
                            continue
                        state = f"{chain}/{strategy}-{k:g}"
                        kind, name = ("tuned", None) if k == 0 else ("restored", strategy)
                        picked = k == chosen and strategy == strategies[0]
                        states.append((chain, state, kind, name, k, None, k / 62, k / 64, picked))
                        share = np.array([accuracy(level, size, k, test, strategy) for test in range(5)])
                        right = place + moved < share[:, None]  # [split, test level, question]
                        answers += [asked(chain, state, prompt, right) for prompt in prompts]
                        if train_accuracy and prompts:
                            right = np.arange(n_train) < round(n_train * train_accuracy(level, size, k))
                            answers.append(rows(chain, state, "qa", "train", 1, right, f"{chain}-"))
                        if kl and k == 0:
                            values = kl(level, size) + rng.normal(0, 0.1, per_level) ** 2
                            ids = [f"test4-{i}" for i in range(per_level)]
                            shifts.append(frame(chain=chain, state_id=state, measure="shift", split="test",
                                                domain="in", level=4, fact_id=ids, kl_nats=values))  # fmt: skip
                if concentration:
                    for k in (1.0, 20.0):
                        share, null = concentration(k)
                        jitter = float(rng.normal(0, 0.002))
                        found.append({"chain": chain, "k_percent": k, "energy_share": 0.4, "changed_share": 0.9,
                                      **held(share + jitter, null)})  # fmt: skip
    known = np.arange(per_level) < per_level * np.arange(5)[:, None] / 4
    answers.append(asked("base", "base", "qa", np.stack([known, known]), stopped=False))
    extra = {}
    if shifts:
        extra["shifts"] = pd.concat(shifts, ignore_index=True)
    if found:
        extra["concentration"] = pd.DataFrame(found)
    names = [
        "chain",
        "state_id",
        "kind",
        "strategy",
        "k_percent",
        "layers",
        "share_of_r",
        "energy_taken_back",
    ]
    return StudyTables(
        pd.DataFrame(chains, columns=["chain", "level", "size", "n", "seed", "method"]),
        pd.DataFrame(states, columns=[*names, "chosen"]),
        pd.concat(answers, ignore_index=True),
        **extra,
    )


def held(share, null, sd=0.02, n=199):
    """A share beside permutations that lie evenly around `null`, each of two ends 1.96 sd away."""
    draws = null + sd * np.linspace(-1.96, 1.96, n) * 40 / 38  # its 2.5% and 97.5% quantiles are 1.96 sd off
    more, less = ((1 + (sign * draws >= sign * share).sum()) / (n + 1) for sign in (1, -1))
    return {"share": share, "null_share": null, "null_sd": sd, "null_low": null - 1.96 * sd, "p_more": more,
            "null_high": null + 1.96 * sd, "n_permutations": n, "p_two_sided": min(1, 2 * min(more, less)),
            "top_20_share": share / 2}  # fmt: skip


def asked(chain, state, prompt, right, stopped=True):
    """Answers to all dev and test questions: right [2, 5, n]."""
    n = right.shape[2]
    ids = [f"{split}{level}-{i}" for split in ("dev", "test") for level in range(5) for i in range(n)]
    flat = right.ravel()
    return frame(chain=chain, state_id=state, prompt=prompt, split=np.repeat(["dev", "test"], 5 * n), domain="in",
                 level=np.tile(np.repeat(np.arange(5), n), 2), topic="P19", fact_id=ids, right=flat, exact=flat,
                 stopped=stopped)  # fmt: skip


def rows(chain, state, prompt, split, level, right, prefix="", stopped=True):
    ids = [f"{prefix}{split}{level}-{i}" for i in range(len(right))]
    return frame(chain=chain, state_id=state, prompt=prompt, split=split, domain="in", level=level, topic="P19",
                 fact_id=ids, right=right, exact=right, stopped=stopped)  # fmt: skip


def frame(**columns):
    return pd.DataFrame(columns)


def mean_of(level, size, k, test, strategy="top"):
    """The world of the paper: N = 240 is best, level 2 is best, 20% helps, more for low levels, 60% collapses."""
    base = {"60": 0.50, "240": 0.56, "1920": 0.48}[size]
    penalty = {"0": 0.13, "1": 0.05, "2": 0.0, "3": 0.06, "4": 0.07}[level]
    penalty *= {"60": 0.5, "240": 0.3, "1920": 1.0}[size]
    back = {"60": 0.2, "240": 0.5, "1920": 1.0}[size]
    moved = {0.0: 0.0, 20.0: back * (0.06 - 0.01 * int(level)), 60.0: -0.35}[k]
    own = 0.06 if str(test) == level and test in (1, 4) else 0.0
    return base - penalty + moved + own + 0.05 * (test - 2)
