import pytest

pytest.register_assert_rewrite(
    "contract.stores",
    "contract.stores_mutable",
    "contract.streams",
    "contract.near_rows",
    "contract.near_objects",
)
