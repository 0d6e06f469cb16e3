"""Train several recipes, one after the other, in each of torchrun's processes: ``train_each.py ARGUMENTS_JSON``.

ARGUMENTS_JSON: a list of the arguments of `quarterturn`, one list a training. The exit status is that of the first that
fails, else 0.
"""

from __future__ import annotations

import json
import sys

from tests.training.command_line import quarterturn

if __name__ == "__main__":
    for arguments in json.loads(sys.argv[1]):
        done = quarterturn(*arguments)
        print(done.out, done.err, sep="", file=sys.stderr)
        if done.status:
            sys.exit(done.status)
