"""Runs a command and prints its exit code, wall time and peak resident memory as one line of JSON."""

import json
import resource
import subprocess
import sys
import time

start = time.perf_counter()
code = subprocess.run(sys.argv[1:], stdout=sys.stderr, check=False).returncode
seconds = time.perf_counter() - start
peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
# Linux counts kibibytes, macOS bytes.
print(json.dumps({"code": code, "seconds": seconds, "peak_bytes": peak * (1 if sys.platform == "darwin" else 1024)}))
