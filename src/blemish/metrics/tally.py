"""Map values as whole numbers in the same order, and counts of them that take little room.

The bits of a float32, read as a whole number, are in the order of the values (after a turn for the negative ones).
Dropping the lowest `shift` bits of such a key gives bins of equal relative width, 2 ** (shift - 23), without knowing
the range of the values in advance; with `shift = 0` every value has its own bin and nothing is lost.
"""

import numpy as np
from numpy.typing import NDArray

Keys = NDArray[np.uint32]
Tallies = NDArray[np.uint32]

_SIGN = np.uint32(0x8000_0000)
_MOST_DENSE_BINS = 2**22


def keys_of(values: NDArray[np.floating]) -> Keys:
    """Keys in the order of the values, equal where the values are equal as float32.

    >>> keys = keys_of(np.array([-2.0, -1.0, -0.0, 0.0, 1e-30, 3.0]))
    >>> np.diff(keys.astype(np.int64)) > 0
    array([ True,  True, False,  True,  True])
    """
    unsigned_zero = np.asarray(values, np.float32) + np.float32(0.0)  # -0.0 becomes 0.0
    bits: Keys = unsigned_zero.view(np.uint32)
    turn = (bits.view(np.int32) >> 31).view(np.uint32)  # all ones where negative
    turn |= _SIGN
    turn ^= bits
    return turn


def values_of(keys: Keys) -> NDArray[np.float32]:
    """The values the keys came from.

    >>> values_of(keys_of(np.array([-2.5, 0.0, 0.1], np.float32)))
    array([-2.5,  0. ,  0.1], dtype=float32)
    """
    bits: Keys = np.where(keys >= _SIGN, keys ^ _SIGN, ~keys)
    return bits.view(np.float32)


def threshold_key(threshold: float) -> np.uint32:
    """The key that a float32 value must be above to be above the threshold, which is a float64.

    >>> keys_of(np.array([0.1], np.float32)) > threshold_key(0.1)  # float32's 0.1 is a little above 0.1
    array([ True])
    """
    nearest = np.float32(threshold)
    if float(nearest) > threshold:
        nearest = np.nextafter(nearest, np.float32(-np.inf))
    return np.uint32(keys_of(np.array([nearest]))[0])


def tally(keys: Keys) -> tuple[Keys, Tallies]:
    """The distinct keys in ascending order, and how often each occurs.

    >>> tally(np.array([7, 3, 7], np.uint32))
    (array([3, 7], dtype=uint32), array([1, 2], dtype=uint32))
    """
    distinct, times = _distinct(keys)
    return distinct.astype(np.uint32), times


def tally_by_group(groups: NDArray[np.integer], keys: Keys) -> tuple[NDArray[np.int32], Keys, Tallies]:
    """The distinct pairs of group (counted from 0) and key, ascending, and how often each occurs.

    >>> tally_by_group(np.array([1, 0, 1]), np.array([7, 3, 7], np.uint32))
    (array([0, 1], dtype=int32), array([3, 7], dtype=uint32), array([1, 2], dtype=uint32))
    """
    if not keys.size:
        return np.zeros(0, np.int32), keys, np.zeros(0, np.uint32)
    low = int(keys.min())
    span = int(keys.max()) - low + 1
    distinct, times = _distinct(groups.astype(np.int64) * span + (keys.astype(np.int64) - low))
    group, key = np.divmod(distinct.astype(np.int64), span)
    return group.astype(np.int32), (key + low).astype(np.uint32), times


def firsts(ordered: NDArray[np.integer]) -> NDArray[np.intp]:
    """Indices at which a value differs from the one before it.

    >>> firsts(np.array([3, 3, 7]))
    array([0, 2])
    """
    differs = np.ones(ordered.size, np.bool_)
    np.not_equal(ordered[1:], ordered[:-1], out=differs[1:])
    return np.flatnonzero(differs)


def _distinct(numbers: NDArray[np.integer]) -> tuple[NDArray[np.integer], Tallies]:
    if not numbers.size:
        return numbers, np.zeros(0, np.uint32)
    low = numbers.min()
    if int(numbers.max()) - int(low) < _MOST_DENSE_BINS:  # counting is several times faster than sorting
        dense = np.bincount(numbers - low)
        present = np.flatnonzero(dense)
        return present + int(low), dense[present].astype(np.uint32)
    ordered = np.sort(numbers, axis=None)
    first = firsts(ordered)
    return ordered[first], np.diff(first, append=ordered.size).astype(np.uint32)
