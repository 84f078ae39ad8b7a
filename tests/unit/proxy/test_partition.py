"""Names of callers and of what they may see: no two share one, and none can be undone."""

import itertools

from nearcache.proxy.headers import Sorted
from nearcache.proxy.partition import Partitions, names_of

SECRET = b"a secret of the proxy"
ALICE, BOB = (Sorted(((b"authorization", key),), ()) for key in (b"Bearer a", b"Bearer b"))
ROUTED = Sorted(ALICE.credentials, ((b"x-provider", b"other"),))
PARTS = (b"/v1/embeddings", b"", b"text", b"base64", b"model", b'"m"')


def test_callers_have_partitions_of_their_own():
    names = Partitions(SECRET, shared=False)
    assert names.identity(ALICE, PARTS) != names.identity(BOB, PARTS)
    assert names.caller(ALICE) != names.caller(BOB)


def test_shared_is_what_does_not_depend_on_the_caller():
    names = Partitions(SECRET, shared=True)
    assert names.identity(ALICE, PARTS) == names.identity(BOB, PARTS)
    assert names.identity(ALICE, PARTS) != names.identity(ROUTED, PARTS)
    assert names.caller(ALICE) != names.caller(BOB)


def test_no_two_lists_of_parts_share_a_name():
    lists = [(b"ab",), (b"a", b"b"), (b"", b"ab"), (b"ab", b""), (b"1:a", b"b"), (b"a1:b",), ()]
    names = Partitions(SECRET, shared=False)
    found = [names.identity(ALICE, parts) for parts in lists]
    assert len(set(found)) == len(lists)
    headers = [
        Sorted((), ()), Sorted(((b"a", b"b"),), ()), Sorted((), ((b"a", b"b"),)),
        Sorted(((b"ab", b""),), ()), Sorted(((b"", b"ab"),), ()),
    ]  # fmt: skip
    for make in (names.caller, lambda h: names.identity(h, PARTS)):
        assert all(make(x) != make(y) for x, y in itertools.combinations(headers, 2))


def test_another_secret_makes_other_names():
    one, other = (Partitions(secret, shared=False) for secret in (SECRET, b"another secret"))
    assert one.identity(ALICE, PARTS) != other.identity(ALICE, PARTS)
    assert one.caller(ALICE) != other.caller(ALICE)


def test_inputs_have_names_of_their_own_under_each_identity():
    names = Partitions(SECRET, shared=False)
    identities = names.identity(ALICE, PARTS), names.identity(BOB, PARTS)
    found = [name for each in identities for name in names_of(each, [b"a", b"b", b""])]
    assert len(set(found)) == 6
    assert all(len(name) == 20 for name in found)
