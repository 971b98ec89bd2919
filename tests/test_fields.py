import pytest

from torch_geometric_flare.fields import (
    Field,
    channel_slices,
    choose_arrays,
    choose_fields,
    num_channels,
    read_fields,
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


@pytest.mark.parametrize(
    ("text", "name", "array"),
    [
        ("pressure", "pressure", "pressure"),
        ("static-pressure (Pa)", "static_pressure_Pa", "static-pressure (Pa)"),
        ("Größe p² (m²/s²)", "Größe_p_m_s", "Größe p² (m²/s²)"),
        ("Velocity[i] [m s^-1]", "Velocity_i_m_s_1", "Velocity[i] [m s^-1]"),
        ("region0:p", "region0_p", "region0:p"),
        ("2nd mode", "field_2nd_mode", "2nd mode"),
        ("???", "field", "???"),
        ("p=static-pressure (Pa)", "p", "static-pressure (Pa)"),
        ("p = q", "p", " q"),
        ("a b=c", "a_b_c", "a b=c"),
    ],
)
def test_the_name_of_an_array_gives_a_field(text, name, array):
    field = Field.read_from(text)
    assert (field.name, field.array) == (name, array)
    assert Field(field.name, 1, "Pa", source=field.source).array == array
    with pytest.raises(ValueError, match="two fields are called"):
        channel_slices((field, field))


def test_fields_of_an_option():
    found = read_fields(r"p=static-pressure (Pa),T=temperature\, total,rho")
    arrays = [(field.name, field.array) for field in found]
    assert arrays == [
        ("p", "static-pressure (Pa)"),
        ("T", "temperature, total"),
        ("rho", "rho"),
    ]
    with pytest.raises(ValueError, match="name is ''"):
        read_fields("p,,q")


def test_other_arrays():
    found = choose_arrays(FIELDS, (Field("pressure", source="p (Pa)"),))
    assert [field.array for field in found] == ["p (Pa)", "wall_shear_stress"]
    assert found[0].unit == "m²/s²"
    with pytest.raises(ValueError, match="'mach'"):
        choose_arrays(FIELDS, (Field("mach"),))
