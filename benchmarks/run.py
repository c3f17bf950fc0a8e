"""Measures what the design promises: `python benchmarks/run.py [NAME …] [--quick] [--json FILE]`.

Every figure comes with its reference, measured in the same run and taking turns with it, since machines differ and this
one may be shared. `docs/benchmarks.md` says what each benchmark does and what it leaves out.
"""

from __future__ import annotations

import sys
from pathlib import Path

# As a script, Python looks for modules in this folder only.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.harness import main

if __name__ == "__main__":
    sys.exit(main())
