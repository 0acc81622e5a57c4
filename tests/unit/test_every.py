"""The lists of tests/every.py are whole: a member or a field without an instance is named."""

from typing import get_args

import pytest

from presets import schema
from tests import every


@pytest.mark.parametrize("kind", get_args(schema.Augmentation))
def test_a_member_without_an_instance_is_named(kind: type) -> None:
    with pytest.raises(LookupError, match=rf"no instance of {kind.__name__}$"):
        every.of_union(schema.Augmentation, [each for each in every.AUGMENTATIONS if not isinstance(each, kind)])


def test_a_field_that_has_its_default_everywhere_is_named() -> None:
    with pytest.raises(LookupError, match=r"only defaults of Mix.mixup, off_epochs$"):
        every.of_fields([schema.Mix(cutmix=1.0, p=0.5), schema.Mix()])
