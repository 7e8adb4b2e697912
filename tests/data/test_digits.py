from hexavit.data import Digits
from hexavit.data.split import make_split


def test_a_fifth_of_every_digit_is_kept_for_validation() -> None:
    digits = Digits()
    split = make_split(digits, 0.2, 0)
    assert sorted(split["train"] + split["val"]) == list(range(1797))
    for label in range(10):
        of_label = [n for n, each in enumerate(digits.labels) if each == label]
        assert len(set(of_label) & set(split["val"])) == round(len(of_label) / 5)


def test_pixels_use_the_whole_range() -> None:
    assert Digits().load(0).getextrema() == (0, 239)  # its darkest stroke is 15 of 16
    assert (Digits().load(0).mode, Digits().load(0).size) == ("L", (8, 8))
