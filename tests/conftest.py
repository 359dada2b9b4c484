import os

os.environ.setdefault("NPROC", "16")  # independent LAPACK calls deadlock in a pool of two threads
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
# Most programs of the tests run once: compiling is their cost (.ci/run has those that compute).
os.environ.setdefault("JAX_TRACEBACK_IN_LOCATIONS_LIMIT", "0")
os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false")

import itertools
import platform
import tempfile
import zlib
from pathlib import Path

import jax
import jaxlib
import pytest

_CACHE = Path(tempfile.gettempdir()) / f"anajax-tests-jaxlib-{jaxlib.__version__}-{platform.machine()}"
jax.config.update("jax_compilation_cache_dir", str(_CACHE))
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)


@pytest.fixture
def key(request):
    """A random key that is each test's own, and always the same."""
    return jax.random.key(zlib.crc32(request.node.nodeid.encode()))


@pytest.fixture
def x64():
    """64-bit floats for one test."""
    with jax.enable_x64(True):
        yield


_MODULES = itertools.count(1)


@pytest.fixture(autouse=True, scope="module")
def bounded_memory():
    """Forget the programs of four modules of tests: thousands of them fill gigabytes."""
    yield
    if next(_MODULES) % 4 == 0:
        jax.clear_caches()
