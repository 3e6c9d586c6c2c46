"""Smooth curves through random numbers, which the phantoms' shapes and tones follow."""

import numpy as np
from scipy import sparse


def spline_weights(positions, nodes, scale=1.0):
    """Cubic B-spline weights, sparse float32 (positions, nodes), divided by `scale`.

    Positions are in steps between nodes; the middle of the nodes is at 0.
    """
    away = np.abs(positions[:, None] - (np.arange(nodes) - (nodes - 1) / 2))
    weights = np.where(away < 1, 2 / 3 - away**2 + away**3 / 2, np.clip(2 - away, 0, None) ** 3 / 6)
    return sparse.csr_array((weights / scale).astype(np.float32))
