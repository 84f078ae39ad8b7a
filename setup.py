"""The native core, of the near tier and of checksums: left out where no C compiler is.

``NEARCACHE_SANITIZE=1`` builds it with the address and undefined-behaviour sanitizers, for
``tests/native``.
"""

import os
import sys
from pathlib import Path

from setuptools import Extension, setup

NEAR, CODECS = Path("src/nearcache/near"), Path("src/nearcache/codecs")
FLAGS = [] if sys.platform == "win32" else ["-O3", "-fno-strict-aliasing"]
SANITIZE = ["-fsanitize=address,undefined", "-fno-omit-frame-pointer", "-O1", "-g"]
sanitized = bool(os.environ.get("NEARCACHE_SANITIZE"))


def native(name: str, folder: Path, **more: object) -> Extension:
    """Return a module of the native core, made of one folder's sources."""
    return Extension(
        name,
        [str(folder / "_native.pyx")],
        include_dirs=[str(folder)],
        define_macros=[("NEARCACHE_SANITIZED", "1")] if sanitized else [],
        extra_compile_args=SANITIZE if sanitized else FLAGS,
        extra_link_args=SANITIZE if sanitized else [],
        optional=not sanitized,
        **more,
    )


setup(
    ext_modules=[
        native(
            "nearcache.near._native",
            NEAR,
            depends=[str(path) for path in sorted(NEAR.glob("native/*"))],
        ),
        native("nearcache.codecs._native", CODECS),
    ]
)
