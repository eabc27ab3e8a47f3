"""cmp: reads two equal checkpoints byte by byte, file after file. It sets the pace for diff."""

import subprocess

import protocol


def compare(threads):
    if threads > 1:
        return protocol.skip("one thread only")
    pairs = [(path, protocol.FOLDER / "same" / path.name) for path in sorted((protocol.FOLDER / "old").glob("*.safetensors"))]
    seconds, _ = protocol.timed(lambda: [subprocess.run(["cmp", *pair], check=True) for pair in pairs])
    return {"seconds": seconds, "note": "equal files"}


version = subprocess.run(["cmp", "--version"], capture_output=True, text=True, check=True).stdout
protocol.serve(version.splitlines()[0], {"compare": compare})
