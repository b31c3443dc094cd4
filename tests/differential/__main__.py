"""Plays scenarios with one engine and prints, as JSON, what each end was told.

python -m tests.differential twisted|ropewalk [scenario …]
"""

from __future__ import annotations

import json
import sys

from tests.differential.bench import Bench, Engine
from tests.differential.scenarios import SCENARIOS

engine = Engine(sys.argv[1])
names = sys.argv[2:] or list(SCENARIOS)
json.dump({name: Bench(engine).play(SCENARIOS[name].play) for name in names}, sys.stdout, indent=1)
