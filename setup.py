"""The native core of the near tier: built where a C compiler is, left out where none is."""

from setuptools import Extension, setup

setup(
    ext_modules=[
        Extension(
            "nearcache.near._native",
            ["src/nearcache/near/_native.pyx"],
            include_dirs=["src/nearcache/near"],
            depends=["src/nearcache/near/native"],
            optional=True,
        )
    ]
)
