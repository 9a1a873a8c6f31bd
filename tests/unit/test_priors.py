"""Prior boxes worked out by hand."""

import subprocess
import sys

import numpy as np
import pytest

from featherface.models.priors import make_priors


def test_640_pixels_have_16800_priors() -> None:
    assert make_priors((640, 640)).shape == (16_800, 4)


def test_priors_are_ordered_by_level_row_column_size() -> None:
    priors = make_priors((32, 64), strides=(16, 32), min_sizes_px=((8, 24), (40,)))
    expected = [
        [8, 8, 8, 8], [8, 8, 24, 24], [24, 8, 8, 8], [24, 8, 24, 24],
        [40, 8, 8, 8], [40, 8, 24, 24], [56, 8, 8, 8], [56, 8, 24, 24],
        [8, 24, 8, 8], [8, 24, 24, 24], [24, 24, 8, 8], [24, 24, 24, 24],
        [40, 24, 8, 8], [40, 24, 24, 24], [56, 24, 8, 8], [56, 24, 24, 24],
        [16, 16, 40, 40], [48, 16, 40, 40],
    ]  # fmt: skip
    np.testing.assert_array_equal(priors, np.array(expected, dtype=np.float32))
    assert priors.dtype == np.float32


def test_large_priors_are_not_clipped_to_the_image() -> None:
    cx, cy, width, height = make_priors((32, 32))[-1]
    assert (cx, cy, width, height) == (16, 16, 512, 512)


def test_a_side_that_is_no_multiple_counts_its_cut_cell() -> None:
    assert len(make_priors((33, 32), strides=(8,), min_sizes_px=((16,),))) == 5 * 4


def test_priors_are_cached_and_read_only() -> None:
    priors = make_priors((64, 32))
    assert make_priors((64, 32)) is priors
    assert make_priors((64, 32), strides=[8, 16, 32]) is priors
    with pytest.raises(ValueError, match="read-only"):
        priors[0, 0] = 1


def test_levels_without_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match="got 3 strides and 2 tuples of sizes"):
        make_priors((64, 64), min_sizes_px=((16,), (32,)))


@pytest.mark.parametrize(("input_hw", "strides"), [((0, 64), (8,)), ((64, 64), (0,))])
def test_sizes_of_zero_are_refused(input_hw: tuple[int, int], strides: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="must be positive"):
        make_priors(input_hw, strides=strides, min_sizes_px=((16,),))


def test_priors_need_no_torch() -> None:
    code = "import sys, featherface.models.priors; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
