"""The shift of one row in numpy, written without looking at the package: the check of kl.py and shift.py."""

import numpy as np
from scipy import stats


def slow_kl(first, second):
    """(the ten ids, KL in nats, mass outside the ten of the first, and of the second)."""
    ids = sorted(range(len(first)), key=lambda i: (-first[i], i))[:10]
    p, q = (np.exp(x.astype(np.float64) - x.max()) for x in (first, second))
    return ids, stats.entropy(p[ids], q[ids]), 1 - p[ids].sum() / p.sum(), 1 - q[ids].sum() / q.sum()
