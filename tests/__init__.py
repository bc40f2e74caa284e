"""The tests; two processes run them, and each uses one core."""

import os

# Before numpy and torch are imported: two processes of two threads each wait for one another at every operation.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")
