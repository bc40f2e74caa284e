"""Hostile images, opened in a process with little memory: each decodes or is refused in words, soon."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.data import shared

MEMORY = 3 * 2**30  # bytes of address space
LONGEST = 20.0  # seconds for one file

# Every image of the folder through the door that users take, and every other file straight into the decoder.
PROBE = """
import json, resource, sys, time
from pathlib import Path
resource.setrlimit(resource.RLIMIT_AS, (int(sys.argv[2]),) * 2)
from evalkit.errors import UnreadableSample
from evalkit.samples import open_samples
from evalkit.samples._headers import read_facts
from evalkit.samples._media import decode_image

root = Path(sys.argv[1])
samples = list(open_samples(root, modality="image"))
seen = {s.id for s in samples}
calls = [(s.id, call) for s in samples for call in (s.load, s.facts)]
for path in sorted(p for p in root.rglob("*") if p.is_file()):
    if path.relative_to(root).as_posix() not in seen:
        calls.append((path.name, lambda path=path: decode_image(path.read_bytes())))
        calls.append((path.name, lambda path=path: read_facts(path)))
found = []
for name, call in calls:
    start = time.perf_counter()
    try:
        call()
        said = ""
    except UnreadableSample as error:
        said = str(error) or "(no reason)"
    except BaseException as error:
        said = f"!{type(error).__name__}: {error}"
    found.append((name, said, time.perf_counter() - start))
print(json.dumps(found))
"""


@pytest.mark.parametrize(("folder", "least"), [("pillow_odd", 266), ("image_rs", 24), ("bombs", 6)])
def test_each_hostile_file_decodes_or_is_refused(folder: str, least: int) -> None:
    root = shared("data", "malformed", folder)
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", PROBE, str(root), str(MEMORY)],
        cwd=Path(__file__).resolve().parent.parent,
        env={**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout)
    assert len(found) >= 2 * least
    assert [entry for entry in found if entry[1].startswith("!") or entry[1] == "(no reason)"] == []
    assert [entry for entry in found if "MemoryError" in entry[1]] == []
    assert max(seconds for _, _, seconds in found) < LONGEST
