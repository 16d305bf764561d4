"""The model of the protocol: random orders find no fault, and a rule that is left out is found."""

import pytest

from tests.protocol.model import model

pytestmark = [pytest.mark.once, pytest.mark.no_cover]

ORDERS = 1_200
# An order that shows each rule left out. The other rules show in fewer than one order of 10,000, or in none: they
# guard against what needs two processes that sleep at the worst moments, and rest on the arguments in the model's page.
SHOWN_BY = {
    "R1": 28,
    "R3": 268,
    "R4": 410,
    "R5": 124,
    "R6": 28,
    "R6-order": 110,
    "R8": 186,
    "R10": 410,
    "R9": 1338,
    "R9-base": 1133,
    "H1": 5,
    "H1-once": 41,
    "H7": 35,
    "H9": 108,
    "H3-drop": 9037,
    "P1": 1909,
    "P3": 755,
    "S1": 1242,
    "W1": 7791,
}


def test_no_order_of_the_model_finds_a_fault() -> None:
    assert {seed: faults for seed in range(ORDERS) if (faults := model.run(seed))} == {}


@pytest.mark.parametrize("rule", SHOWN_BY)
def test_a_rule_that_is_left_out_is_found(rule: str) -> None:
    assert model.run(SHOWN_BY[rule], rule)
    assert not model.run(SHOWN_BY[rule])
