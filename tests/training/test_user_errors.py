import pytest
from lightning.fabric.utilities.exceptions import MisconfigurationException

from torch_geometric_flare._extras import MissingExtra
from torch_geometric_flare.training import user_errors


@pytest.mark.parametrize(
    "error",
    [
        ValueError,
        FileExistsError,
        ConnectionError,
        MisconfigurationException,
        MissingExtra,
    ],
)
def test_users_get_a_sentence(error, capsys):
    @user_errors()
    def main():
        raise error("the sun is\n  down")

    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code == 2
    assert capsys.readouterr().err == "error: the sun is down\n"


def test_all_else_is_left_alone():
    with pytest.raises(RuntimeError, match="a mistake of ours"), user_errors():
        raise RuntimeError("a mistake of ours")
    with user_errors():
        pass
