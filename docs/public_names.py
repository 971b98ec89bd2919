"""A Griffe extension: a function is not hidden by the module of its name.

`training/run_folder.py` defines `run_folder`, which `training` exports. Python finds
the function under `training.run_folder`, Griffe the module, and the page would list
both.
"""

from typing import Any

from griffe import Alias, Extension, Module


class PublicNames(Extension):
    """Puts what a subpackage exports in the place of a module of the same name."""

    def on_package(self, *, pkg: Module, **kwargs: Any) -> None:
        """Called by Griffe when the whole package is loaded."""
        for subpackage in pkg.modules.values():
            for name in subpackage.exports or ():
                member = subpackage.members.get(str(name))
                if isinstance(member, Module) and name in member.members:
                    subpackage.members[str(name)] = Alias(
                        str(name), member.members[str(name)], parent=subpackage
                    )
