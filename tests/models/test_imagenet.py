from hexavit.models.imagenet import imagenet_classes, imagenet_numbers


def test_imagenets_classes_are_a_thousand_different_names() -> None:
    names = imagenet_classes()
    assert len(names) == len(set(names)) == 1000
    assert (names[0], names[999]) == ("tench", "toilet tissue")
    assert [name for name in names if name.startswith("crane")] == ["crane (n02012849)", "crane (n03126707)"]
    assert imagenet_numbers()[0] == "n01440764"
    assert len(set(imagenet_numbers())) == 1000
