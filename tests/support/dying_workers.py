"""Kill worker processes, for the tests and the benchmark of a corpus."""

import random

import psutil


def kill_a_worker(client: int, generator: random.Random) -> bool:
    """Kill one of a client's worker processes at random, and return whether there was one."""
    try:
        children = psutil.Process(client).children(recursive=True)
        workers = [one for one in children if "spawn_main" in " ".join(one.cmdline())]
        if workers:
            generator.choice(workers).kill()
    except psutil.Error:  # gone
        return False
    return bool(workers)
