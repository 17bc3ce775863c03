"""An answer to exercise 6: a dict for a cache, einsum, a position at a time."""

import numpy as np


def step(x, weights, cache, heads):
    new = {}
    for name in ("query", "key", "value"):
        layer = weights[name]
        y = np.einsum("sd,od->so", x, layer["weight"]) + layer.get("bias", 0)
        new[name] = y.reshape(len(x), heads, -1)
    old = cache or {"keys": new["key"][:0], "values": new["value"][:0]}
    keys = np.concatenate([old["keys"], new["key"]])
    values = np.concatenate([old["values"], new["value"]])
    past = len(old["keys"])
    rows = []
    for i, query in enumerate(new["query"]):
        seen = past + i + 1
        scores = np.einsum("hk,thk->ht", query, keys[:seen]) / query.shape[-1] ** 0.5
        share = np.exp(scores - scores.max(axis=-1, keepdims=True))
        share /= share.sum(axis=-1, keepdims=True)
        rows.append(np.einsum("ht,thk->hk", share, values[:seen]).reshape(-1))
    out = np.stack(rows) @ weights["out"]["weight"].T + weights["out"]["bias"]
    return out, {"keys": keys, "values": values}
