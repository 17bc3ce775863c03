"""Kill worker processes, for the tests and the benchmark of a corpus."""

import random

import psutil


def kill_a_worker(client: int, generator: random.Random) -> bool:
    """Kill a random one of a client's worker processes, and return whether there was any."""
    try:
        children = psutil.Process(client).children(recursive=True)
        workers = [one for one in children if "spawn_main" in " ".join(one.cmdline())]
        if workers:
            generator.choice(workers).kill()
    except psutil.Error:  # it has ended
        return False
    return bool(workers)
