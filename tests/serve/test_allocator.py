"""The C library keeps what was freed."""

import subprocess
import sys

import pytest

PROGRAM = """
import numpy as np, resource
from imagelake.serve.allocator import keep_freed_memory
kept = {kept} and keep_freed_memory()
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(200):
        blocks = [np.ones(600_000, np.uint8) for _ in range(4)]
        del blocks
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
faults()
print(int(kept), faults())
"""


def test_freed_memory_is_used_again():
    """Blocks that are freed and taken again cost no page faults any more."""
    said = [
        subprocess.run([sys.executable, "-c", PROGRAM.format(kept=kept)], capture_output=True, text=True).stdout.split()
        for kept in (False, True)
    ]
    if said[1][0] == "0":
        pytest.skip("this is not the GNU C library")
    assert int(said[1][1]) < 200
    assert int(said[1][1]) < int(said[0][1])
