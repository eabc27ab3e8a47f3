"""Where pip put MKL: a virtual environment's lib folder is on no search path."""

import pathlib
import sys


def path():
    candidates = sorted(pathlib.Path(sys.prefix).glob("[Ll]ib*/**/*mkl_rt.*"))
    if not candidates:
        raise FileNotFoundError("mkl_rt is not in the environment")
    return str(candidates[0])
