"""Before JAX is imported: tests compile much and run little, so the compiler tries less hard."""

import os

os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0")
