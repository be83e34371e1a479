"""A peer in a process of its own, with TensorFlow as its users have it: our oneDNN setting is unset."""

import importlib
import json
import os
import subprocess
import sys
from collections.abc import Callable

__all__ = ["as_users_have_it"]


def as_users_have_it(maker: str, *arguments: object) -> Callable[[], None]:
    """A contender that calls, in the other process, the one that `maker` makes of the arguments.

    Args:
        maker: ``module:function``.
        arguments: what JSON can hold.
    """
    environment = {name: value for name, value in os.environ.items() if "ONEDNN" not in name}
    process = subprocess.Popen(
        [sys.executable, "-m", __name__, maker, json.dumps(arguments)],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )

    def answered() -> None:
        if process.stdout is None or not process.stdout.readline():
            raise RuntimeError(f"{maker}{arguments} failed in its own process")

    def run() -> None:
        print(file=process.stdin, flush=True)
        answered()

    answered()
    return run


def main() -> None:
    """Says that it is ready, then calls the contender for every line that comes, until none does."""
    importlib.import_module("tensorflow")  # before this project, whose setting then comes too late
    module, _, function = sys.argv[1].partition(":")
    contender = getattr(importlib.import_module(module), function)(*json.loads(sys.argv[2]))
    print("ready", flush=True)
    for _ in sys.stdin:
        contender()
        print("done", flush=True)


if __name__ == "__main__":
    main()
