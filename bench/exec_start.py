"""`kms-runtime exec` as a process, from its start to the program it becomes, against the least such a start could be.

The floor is the same interpreter, importing what opens a store (orjson, AES-GCM), reading and decrypting as many bytes, and
becoming the same program. Run: PYTHONPATH=. .venv/bin/python bench/exec_start.py
"""

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.kmsruntime.pieces import at_rest_key, header, sealed, store_file

RUNS = 41
VALUES = 100
FLOOR = """
import os, sys, orjson
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
content = open(sys.argv[1], "rb").read()
cipher = AESGCM(bytes(32))
for _ in range(100):
    cipher.decrypt(bytes(12), cipher.encrypt(bytes(12), content[:40], b""), b"")
os.execvpe("true", ["true"], os.environ)
"""


def timed(*command: str) -> float:
    start = time.perf_counter()
    subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
    return time.perf_counter() - start


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        directory = Path(name)
        file = store_file(directory)
        entries = [sealed("Orders DB", f"field{number}", f"value {number}") for number in range(VALUES)]
        file.write(header(), entries, file.prepare(at_rest_key()))
        ours, floor = [], []
        for _ in range(RUNS):
            ours.append(timed(sys.executable, "-m", "kmsruntime", "exec", "--dir", name, "--", "true"))
            floor.append(timed(sys.executable, "-c", FLOOR, str(directory / "config.json")))
        mine, least = statistics.median(ours), statistics.median(floor)
        print(
            f"exec with {VALUES} values: {mine * 1e3:.0f} ms, the floor {least * 1e3:.0f} ms, ratio {mine / least:.2f}"
        )


if __name__ == "__main__":
    main()
