import pytest

from torch_geometric_flare.fields import (
    Field,
    channel_slices,
    choose_fields,
    num_channels,
)

FIELDS = (Field("pressure", unit="m²/s²"), Field("wall_shear_stress", 3, "m²/s²"))


def test_fields_stand_side_by_side():
    assert num_channels(FIELDS) == 4
    assert channel_slices(FIELDS) == {
        "pressure": slice(0, 1),
        "wall_shear_stress": slice(1, 4),
    }
    assert [str(f) for f in (*FIELDS, Field("mach"))] == [
        "pressure (m²/s²)",
        "wall_shear_stress (m²/s²)",
        "mach",
    ]


@pytest.mark.parametrize("name", ["", "wall shear", "1p", None])
def test_a_name_is_an_identifier(name):
    with pytest.raises(ValueError, match="name is"):
        Field(name)


@pytest.mark.parametrize("channels", [0, -1, 1.0, True])
def test_a_field_has_channels(channels):
    with pytest.raises(ValueError, match="channels is"):
        Field("pressure", channels)


def test_names_differ():
    with pytest.raises(ValueError, match="two fields are called 'pressure'"):
        channel_slices((FIELDS[0], FIELDS[0]))


def test_choice_in_the_order_of_the_names():
    assert choose_fields(["wall_shear_stress", "pressure"], FIELDS) == FIELDS[::-1]
    for wrong in ((), "pressure", ("pressure", "pressure"), ("pressure", "mach")):
        with pytest.raises(ValueError, match="fields must be a tuple of names among"):
            choose_fields(wrong, FIELDS)
