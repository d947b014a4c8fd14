"""What the oldest compilers make of the kernels, held to the float64 reference."""

import pytest

from tests import test_fast
from tests.native.exact import check_products
from tests.native.machines import COMPILERS
from tfguide import native

pytestmark = [pytest.mark.skipif(not native.is_available(), reason="there is no C++ compiler"), pytest.mark.slow]


@pytest.mark.parametrize("name", COMPILERS)
def test_the_kernels_are_right_from_each_compiler(name):
    with COMPILERS[name].kernels():
        for form in native.FORMATS:
            check_products(form, rows=(1, 2, 5, 8, 17))
        for changes in (
            dict(activation="swiglu", norm="rms", positions="rotary"),
            dict(n_kv_heads=2, positions="alibi"),
        ):
            test_fast.test_it_gives_the_logits_of_the_reference("torch", changes)
        for bits in ((8, None), (8, 8), (4, 8)):
            test_fast.test_packed_weights_give_what_the_dequantised_ones_give("torch", True, bits)
        test_fast.test_weights_of_16_bits_are_read_as_they_are("torch", "float16")
