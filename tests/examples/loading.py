"""Examples as modules: they are scripts in a folder that is no package."""

import importlib.util
import sys
from pathlib import Path

EXAMPLES = Path(__file__).parents[2] / "examples"


def load_example(name, monkeypatch=None):
    """Run a script of the folder `examples` as a module.

    Args:
        name: Its path in that folder, without suffix.
        monkeypatch: Registers the module for a test, so that other processes find its
            classes.
    """
    title = f"{Path(name).name}_example"
    spec = importlib.util.spec_from_file_location(title, EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    if monkeypatch is not None:
        monkeypatch.setitem(sys.modules, title, module)
    spec.loader.exec_module(module)
    return module
