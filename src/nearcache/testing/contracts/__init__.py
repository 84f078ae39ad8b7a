'''The contracts of stores and near tiers, as pytest suites: for whoever writes one of their own.

Subclass a suite in a test module, provide its fixture, and pytest runs the specification::

    from collections import Counter

    import pytest

    from nearcache.testing import MemoryStore
    from nearcache.testing.contracts.stores import StoreContract


    class CountingStore:
        """Another store, and how often each part of it was asked for."""

        def __init__(self, inner):
            self.inner, self.asked = inner, Counter()

        def __getattr__(self, name):
            self.asked[name] += 1
            return getattr(self.inner, name)


    class TestCountingStore(StoreContract):
        shared = False

        @pytest.fixture
        def handles(self):
            store = CountingStore(MemoryStore())
            return lambda: store

``stores.StoreContract``
    takes the fixture ``handles``: a function that returns one more store object for the same
    place, empty at the start of each test; a store that lives in one object returns that again.
    The fixture closes what it made. ``shared = False`` says that a fork has data of its own. If
    the store's clock is yours, override ``pass_time(store, seconds)``; if the store can be flushed
    behind everybody's back, ``flush(store)`` returns the function that does it.

``near_objects.NearObjectsContract``
    takes the fixture ``make``: a function of ``(policy, max_entries, max_bytes, clock)`` that
    returns a tier for any value, with the methods of ``nearcache.near.objects.ObjectTier``.

``near_rows.NearRowsContract``
    takes the fixture ``make``: a function of ``(precision, max_entries, max_bytes, clock)`` that
    returns a tier for rows, with the methods of ``nearcache.near.vectors.VectorTier``.
    ``keeps_texts = False`` says that it keeps a name of each text instead of the text.

The suites need pytest, and nothing has to be registered with it: whoever imports one gets its
asserts explained as those of their own tests.
'''

from pkgutil import iter_modules

try:
    import pytest
except ImportError as error:
    raise ImportError("the contract suites need pytest: pip install pytest") from error

pytest.register_assert_rewrite(*(suite.name for suite in iter_modules(__path__, f"{__name__}.")))
