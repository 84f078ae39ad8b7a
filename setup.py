"""The native core of the near tier: built where a C compiler is, left out where none is.

``NEARCACHE_SANITIZE=1`` builds it with the address and undefined-behaviour sanitizers, for
``tests/native``.
"""

import os
import sys
from pathlib import Path

from setuptools import Extension, setup

NEAR = Path("src/nearcache/near")
FLAGS = [] if sys.platform == "win32" else ["-O3", "-fno-strict-aliasing"]
SANITIZE = ["-fsanitize=address,undefined", "-fno-omit-frame-pointer", "-O1", "-g"]
sanitized = bool(os.environ.get("NEARCACHE_SANITIZE"))

setup(
    ext_modules=[
        Extension(
            "nearcache.near._native",
            [str(NEAR / "_native.pyx")],
            include_dirs=[str(NEAR)],
            depends=[str(path) for path in sorted(NEAR.glob("native/*"))],
            define_macros=[("NEARCACHE_SANITIZED", "1")] if sanitized else [],
            extra_compile_args=SANITIZE if sanitized else FLAGS,
            extra_link_args=SANITIZE if sanitized else [],
            optional=not sanitized,
        )
    ]
)
