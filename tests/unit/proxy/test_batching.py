"""Callers' inputs are asked for together, and what happens to one does not happen to another."""

import asyncio
import selectors

import pytest

from nearcache.proxy.answers import Answer, Unusable, Usage
from nearcache.proxy.batching import Batcher
from nearcache.proxy.upstream import Refused, Target

ONE, TWO = (Target(b"/v1/embeddings", b"", name, b"{", base64=True) for name in (b"1", b"2"))


class Embedder:
    """Answers with the inputs themselves; one token per byte. ``wrong`` inputs are refused."""

    def __init__(self, wrong=(), most=10_000, error=None):
        self.batches, self.wrong, self.most, self.error = [], set(wrong), most, error

    async def __call__(self, target, _headers, inputs):
        self.batches.append((target, list(inputs)))
        await asyncio.sleep(0)
        if self.error is not None and len(inputs) > 1:
            raise self.error
        if len(inputs) > self.most:
            raise Refused(413, [], b"too many")
        if self.wrong & set(inputs):
            raise Refused(400, [], b"wrong")
        size = sum(map(len, inputs))
        return Answer(list(inputs), "m", Usage(size, size), [])


def run(embedder, *asks, most=256, gather=0.002):
    """Ask all at once; return each answer or error."""

    async def together():
        batcher = Batcher(embedder, gather=gather, most=most)
        return await asyncio.gather(
            *(batcher.ask(target, [], inputs) for target, inputs in asks), return_exceptions=True
        )

    return asyncio.run(together())


def test_who_asks_at_once_is_asked_for_at_once():
    embedder = Embedder()
    answers = run(embedder, (ONE, [b"a", b"b"]), (ONE, [b"b", b"c"]), (ONE, [b"d"]))
    assert embedder.batches == [(ONE, [b"a", b"b", b"c", b"d"])]
    assert [answer.vectors for answer in answers] == [[b"a", b"b"], [b"b", b"c"], [b"d"]]


def test_another_target_is_another_batch():
    embedder = Embedder()
    run(embedder, (ONE, [b"a"]), (TWO, [b"a"]))
    assert sorted(embedder.batches) == [(ONE, [b"a"]), (TWO, [b"a"])]


def test_a_batch_has_its_limit_and_a_callers_own_inputs_are_never_split():
    embedder = Embedder()
    mine = [b"%d" % n for n in range(10)]
    run(embedder, (ONE, mine), (ONE, [b"a", b"b"]), (ONE, [b"c", b"d", b"e"]), most=4)
    assert [inputs for _, inputs in embedder.batches] == [mine, [b"a", b"b"], [b"c", b"d", b"e"]]


def test_the_bytes_of_a_batch_have_a_limit():
    embedder = Embedder()
    run(embedder, *((ONE, [b"%d" % n * 200_000]) for n in range(6)))
    assert [len(inputs) for _, inputs in embedder.batches] == [3, 3]


@pytest.mark.parametrize(
    "usages,sizes", [((7, 7), (1, 1, 1)), ((10, 12), (5, 3, 1)), ((0, 0), (2, 2))]
)
def test_the_parts_of_the_cost_sum_up_to_the_whole(usages, sizes):
    async def embed(_target, _headers, inputs):
        return Answer(list(inputs), "m", Usage(*usages), [])

    asks = [(ONE, [bytes([97 + n]) * size]) for n, size in enumerate(sizes)]
    answers = run(embed, *asks)
    assert tuple(map(sum, zip(*(a.usage for a in answers), strict=True))) == usages


def test_what_two_asked_for_is_paid_by_one():
    first, second = run(Embedder(), (ONE, [b"aa"]), (ONE, [b"aa", b"b"]))
    assert (first.usage, second.usage) == (Usage(2, 2), Usage(1, 1))


@pytest.mark.parametrize("status", [400, 413, 422])
def test_a_wrong_input_of_one_caller_is_its_own_affair(status):
    async def embed(_target, _headers, inputs):
        if b"bad" in inputs:
            raise Refused(status, [], b"wrong")
        return Answer(list(inputs), "m", Usage(), [])

    good, bad = run(embed, (ONE, [b"good"]), (ONE, [b"bad", b"fine"]))
    assert good.vectors == [b"good"]
    assert (bad.status, bad.body) == (status, b"wrong")


@pytest.mark.parametrize("status", [401, 429, 500, 502])
def test_what_is_no_inputs_fault_is_told_to_all(status):
    calls = []

    async def embed(_target, _headers, inputs):
        calls.append(inputs)
        raise Refused(status, [(b"retry-after", b"7")], b"no", b"1")

    found = run(embed, (ONE, [b"a"]), (ONE, [b"b"]))
    assert len(calls) == 1
    assert [(one.status, one.headers, one.caller) for one in found] == [
        (status, [(b"retry-after", b"7")], b"1")
    ] * 2
    assert found[0] is not found[1]


def test_an_answer_that_cannot_be_read_is_asked_for_again_by_each():
    embedder = Embedder(error=Unusable("wrong count"))
    found = run(embedder, (ONE, [b"a"]), (ONE, [b"b"]))
    assert [one.vectors for one in found] == [[b"a"], [b"b"]]


def test_a_provider_with_a_smaller_limit_is_learned():
    embedder = Embedder(most=2)

    async def twice():
        batcher = Batcher(embedder, gather=0.002, most=256)

        async def four():
            await asyncio.gather(*(batcher.ask(ONE, [], [b"%d" % n]) for n in range(4)))

        await four()
        first = len(embedder.batches)
        await four()
        return first, [len(inputs) for _, inputs in embedder.batches[first:]]

    first, later = asyncio.run(twice())
    assert first == 5  # together, and then each alone
    assert later == [2, 2]


def test_a_caller_that_left_does_not_take_others_along():
    embedder = Embedder()

    async def leave():
        batcher = Batcher(embedder, gather=0.002, most=256)
        leaving = asyncio.ensure_future(batcher.ask(ONE, [], [b"a"]))
        staying = asyncio.ensure_future(batcher.ask(ONE, [], [b"b"]))
        await asyncio.sleep(0)
        leaving.cancel()
        return (await staying).vectors

    assert asyncio.run(leave()) == [b"b"]


class JumpingSelector(selectors.DefaultSelector):
    """Waits no time: tells instead how much has passed."""

    now = 0.0

    def select(self, timeout=None):
        self.now += timeout or 0.0
        return super().select(0)


def on_time(work):
    """Run work on an event loop that is never late, however busy the machine is."""
    clock = JumpingSelector()
    with asyncio.Runner(loop_factory=lambda: asyncio.SelectorEventLoop(clock)) as runner:
        runner.get_loop().time = lambda: clock.now
        return runner.run(work)


def test_a_batch_waits_while_others_come_but_not_for_ever():
    embedder = Embedder()

    async def stream():
        batcher = Batcher(embedder, gather=0.02, most=10_000)
        asks = []
        while not embedder.batches:  # each comes well within the 20 ms
            asks.append(asyncio.ensure_future(batcher.ask(ONE, [], [b"%d" % len(asks)])))
            await asyncio.sleep(0.001)
        await asyncio.gather(*asks)

    on_time(asyncio.wait_for(stream(), 10))
    assert len(embedder.batches[0][1]) == pytest.approx(50, abs=2)  # a millisecond each, of fifty
