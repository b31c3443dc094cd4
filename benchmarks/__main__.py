"""`python -m benchmarks`, the same as `python benchmarks/run.py`.

Why so: the programs here are scripts beside each other, not a package to be imported.
"""

import runpy
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
runpy.run_path(str(HERE / "run.py"), run_name="__main__")
