"""The inner loops of average precision, compiled by numba."""

from __future__ import annotations

from collections.abc import Callable

import numba
import numpy as np


def compiled(function: Callable) -> Callable:
    """Compile with a cache on disk where a folder for it can be written, else without."""
    try:
        return numba.njit(nogil=True, cache=True)(function)
    except RuntimeError:  # numba finds no writable folder
        return numba.njit(nogil=True)(function)


@compiled
def merge_positives(every, hits, out):
    """Average precision from sorted values.

    Args:
        every: Values of all prompts, ascending, [neuron, prompt].
        hits: Values of the positive prompts, ascending, [neuron, positive].
        out: Written: average precision, [neuron].
    """
    n, n_hits = every.shape[1], hits.shape[1]
    for neuron in range(every.shape[0]):
        a, h, total = n - 1, n_hits - 1, 0.0
        while h >= 0:
            value, first = hits[neuron, h], h
            while h >= 0 and hits[neuron, h] == value:
                h -= 1
            while a >= 0 and every[neuron, a] >= value:
                a -= 1
            total += (first - h) * ((n_hits - 1 - h) / (n - 1 - a))
        out[neuron] = total / n_hits


@compiled
def descending_keys(bits, keys):
    """Keys whose ascending order is the descending order of float32 values.

    The high half is the value's bits, turned so that they order as unsigned integers; the low half
    is the prompt's number.

    Args:
        bits: float32 values seen as uint32, [neuron, prompt].
        keys: Written: uint64 [neuron, prompt].

    Returns:
        Whether all values are finite.
    """
    finite = True
    sign, exponent = np.uint32(0x80000000), np.uint32(0x7F800000)
    for neuron in range(bits.shape[0]):
        bad = 0
        for prompt in range(bits.shape[1]):
            b = bits[neuron, prompt]
            if b == sign:  # -0.0 is 0.0
                b = np.uint32(0)
            bad += (b & exponent) == exponent
            # Negative floats order downwards already; the others are turned.
            turned = b if b & sign else (b ^ np.uint32(0x7FFFFFFF))
            keys[neuron, prompt] = (np.uint64(turned) << np.uint64(32)) | np.uint64(prompt)
        finite = finite and bad == 0
    return finite


@compiled
def scan_keys(keys, counted, offsets, hits, out):
    """Sums of precision at the positives, for all labellings in one pass over sorted keys.

    Args:
        keys: Sorted keys of `descending_keys`, [neuron, prompt].
        counted: 1 where a prompt takes part, uint8 [prompt, labelling].
        offsets: Where a prompt's labellings begin in `hits`, [prompt + 1].
        hits: Labellings in which a prompt is positive.
        out: Written: sum over the positives of the precision at their place, [neuron, labelling].
    """
    n, n_labellings = keys.shape[1], counted.shape[1]
    low = np.uint64(0xFFFFFFFF)
    seen = np.zeros(n_labellings, np.int32)
    found = np.zeros(n_labellings, np.int32)
    for neuron in range(keys.shape[0]):
        seen[:] = 0
        found[:] = 0
        out[neuron] = 0.0
        start = 0
        while start < n:
            place = keys[neuron, start] >> np.uint64(32)
            stop = start
            while stop < n and keys[neuron, stop] >> np.uint64(32) == place:
                prompt = np.int64(keys[neuron, stop] & low)
                for r in range(n_labellings):
                    seen[r] += counted[prompt, r]
                for i in range(offsets[prompt], offsets[prompt + 1]):
                    found[hits[i]] += 1
                stop += 1
            # Every positive of this place counts with the precision at the place's end.
            for j in range(start, stop):
                prompt = np.int64(keys[neuron, j] & low)
                for i in range(offsets[prompt], offsets[prompt + 1]):
                    r = hits[i]
                    out[neuron, r] += found[r] / seen[r]
            start = stop
