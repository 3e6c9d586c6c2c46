"""Contestants that take turns, each in a process of its own, so that all of them meet the same machine.

A contestant is a function that gets ready (imports, networks, data) and returns another one without arguments, the
work. Its process then waits for its turn. While one works the others sleep, so none takes time from another, and a
machine that grows slower or faster in the meantime does so for all of them.
"""

import importlib
import json
import os
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PROJECT_FOLDER = Path(__file__).resolve().parents[1]


def compare(contestants, rounds=5, warm_ups=1):
    """Seconds of work of each contestant, round by round.

    Args:
        contestants: {name: (function as "module:name" inside benchmarks, {argument: value})}.
        rounds: turns that count.
        warm_ups: turns before, which do not.

    Returns:
        {name: {"seconds": [a number a round], "median": number, "peak_megabytes": number, **what it said of itself}}.
    """
    workers = {name: start_worker(*call) for name, call in contestants.items()}
    try:
        said = {name: answer(worker) for name, worker in workers.items()}
        seconds = {name: [] for name in workers}
        for turn in range(warm_ups + rounds):
            for name, worker in workers.items():
                print("go", file=worker.stdin, flush=True)
                taken = answer(worker)
                if turn >= warm_ups:
                    seconds[name].append(taken)
        peaks = {name: finish(worker) for name, worker in workers.items()}
    finally:
        for worker in workers.values():
            worker.kill()
            worker.wait()
            for pipe in (worker.stdin, worker.stdout, worker.said):
                pipe.close()
    return {
        name: {
            "seconds": [round(each, 5) for each in seconds[name]],
            "median": round(statistics.median(seconds[name]), 5),
            "peak_megabytes": peaks[name],
            **said[name],
        }
        for name in workers
    }


def start_worker(function, arguments):
    command = [sys.executable, "-W", "ignore", "-m", "benchmarks.side_by_side", function, json.dumps(arguments)]
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""}
    said = tempfile.TemporaryFile("w+")  # noqa: SIM115 - closed with the worker; shown only if it fails
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": said, "text": True}
    worker = subprocess.Popen(command, cwd=PROJECT_FOLDER, env=environment, **pipes)
    worker.said = said
    return worker


def answer(worker):
    for line in worker.stdout:
        if line.startswith("answer "):
            return json.loads(line.removeprefix("answer "))
    worker.said.seek(0)
    raise RuntimeError(f"{' '.join(worker.args[-2:])} ended without an answer:\n{worker.said.read()}")


def finish(worker):
    worker.stdin.close()
    return answer(worker)


def work_in_turns(function, arguments):
    """What a worker process does: get ready, then work once for each line it is sent."""
    module, name = function.split(":")
    work, said = getattr(importlib.import_module(f"benchmarks.{module}"), name)(**arguments)
    print("answer", json.dumps(said), flush=True)
    for _ in sys.stdin:
        start = time.perf_counter()
        work()
        print("answer", time.perf_counter() - start, flush=True)
    print("answer", peak_megabytes(), flush=True)


def peak_megabytes():
    """The most memory that this process has had, on Linux; elsewhere `getrusage`, which may begin with its parent's."""
    status = Path("/proc/self/status")
    if not status.exists():
        return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
    return round(int(re.search(r"VmHWM:\s*(\d+) kB", status.read_text())[1]) / 1024)


if __name__ == "__main__":
    work_in_turns(sys.argv[1], json.loads(sys.argv[2]))
