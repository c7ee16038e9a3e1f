"""Before JAX is imported: tests compile much and run little, so the compiler tries less hard; and
what stemrl keeps for its user (see `stemrl.runs.trust`) is kept elsewhere."""

import os
import tempfile

os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0")
_config = tempfile.TemporaryDirectory(prefix="stemrl-config-")
os.environ["XDG_CONFIG_HOME"] = _config.name
