"""An answer to exercise 7: the pieces between cuts."""

from itertools import pairwise


def merge(word, ids):
    cuts = list(range(len(word) + 1))
    while True:
        ranks = {}
        for i in range(len(cuts) - 2):
            pair = word[cuts[i] : cuts[i + 2]]
            if pair in ids:
                ranks[pair] = ids[pair]
        if not ranks:
            break
        best = min(ranks, key=ranks.get)
        kept = [0] if word else []
        i = 0
        while i < len(cuts) - 1:
            step = 2 if i < len(cuts) - 2 and word[cuts[i] : cuts[i + 2]] == best else 1
            i += step
            kept.append(cuts[i])
        cuts = kept
    return [word[a:b] for a, b in pairwise(cuts)]
