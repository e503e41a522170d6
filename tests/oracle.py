"""Nearest neighbors by float64 brute force: what every index is compared with."""

import numpy as np


def distances(queries, vectors, metric):
    """All distances, float64 (m, n), each pair on its own."""
    q, x = queries.astype(np.float64), vectors.astype(np.float64)
    if metric == "dot":
        return -np.einsum("ij,kj->ik", q, x)
    if metric == "l2":
        return np.stack([np.sqrt(np.square(x - row).sum(axis=1)) for row in q]) if len(q) else np.empty((0, len(x)))
    q_norm, x_norm = np.linalg.norm(q, axis=1), np.linalg.norm(x, axis=1)
    q = np.divide(q, q_norm[:, None], out=np.zeros_like(q), where=q_norm[:, None] > 0)
    x = np.divide(x, x_norm[:, None], out=np.zeros_like(x), where=x_norm[:, None] > 0)
    out = np.stack([0.5 * np.square(x - row).sum(axis=1) for row in q]) if len(q) else np.empty((0, len(x)))
    out[(q_norm > 0)[:, None] != (x_norm > 0)[None, :]] = 1.0
    return out


def check(result, queries, vectors, ids, k, metric, tolerance=1e-12):
    """The answer is right: sorted by (distance, id), the true distances, and nobody nearer was left out."""
    truth = distances(queries, vectors, metric)
    found = np.asarray(result.distances)
    k = min(k, len(vectors))
    assert found.shape == result.ids.shape == (len(queries), k)
    place = {value: row for row, value in enumerate(ids.tolist())}
    scale = 1.0
    if metric == "dot":
        scale = np.linalg.norm(queries.astype(np.float64), axis=1).max(initial=0) * np.linalg.norm(
            vectors.astype(np.float64), axis=1
        ).max(initial=0)
    for row in range(len(queries)):
        names = result.ids[row].tolist()
        assert len(set(names)) == k
        own = truth[row, [place[name] for name in names]] if k else np.empty(0)
        np.testing.assert_allclose(found[row], own, rtol=tolerance, atol=tolerance * scale)
        nearest = np.sort(truth[row])[:k]
        np.testing.assert_allclose(found[row], nearest, rtol=tolerance, atol=tolerance * scale)
        order = list(zip(found[row].tolist(), names, strict=True))
        assert order == sorted(order)
