from lrf_dse.cost.latency import combine, issue_bound
from lrf_dse.target import load_target

K1 = load_target("spacemit-k1")
GENERIC = load_target("qemu-rv64gcv")


def test_no_program_is_faster_than_its_instructions():
    assert issue_bound(1000, K1) == 500
    assert issue_bound(1000, GENERIC) is None
    assert combine(400.0, 1000, K1) == 500
    assert combine(700.0, 1000, K1) == 700
    assert combine(700.0, None, K1) == 700
    assert combine(None, 1000, GENERIC) is None
