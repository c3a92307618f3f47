"""The contract is no module of tests by its name: its assertions are to say what they saw all the same."""

import pytest

pytest.register_assert_rewrite("tests.payments.providers.contract")
