import pytest

pytest.register_assert_rewrite("contract.stores", "contract.near_rows", "contract.near_objects")
