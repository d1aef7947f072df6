# SPDX-License-Identifier: Apache-2.0
"""What of the Open Storage daemon's documentation stands in its code, put into the pages."""

from docutils import nodes, statemachine
from docutils.parsers import rst
from sphinx import application
from sphinx.ext import autodoc

from container_stack import plugins
from container_stack.conf import osd_options


class Options(rst.Directive):
    """``osd-options:: OPTIONS``: a list of options by the name of their tuple."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Return the list."""
        lines = []
        for option in getattr(osd_options, self.arguments[0]):
            default = f" (default: ``{option.default}``)" if option.default else ""
            lines += [f"``{option.name}``", f"    {option.help}{default}", ""]
        return _parsed(self, lines)


class Backends(rst.Directive):
    """``osd-backends::``: the settings of all backends that name theirs."""

    def run(self) -> list[nodes.Node]:
        """Return the list."""
        lines = []
        for name in plugins.names(plugins.VOLUME_BACKENDS):
            with autodoc.mock(["boto3", "botocore"]):
                settings = plugins.load(plugins.VOLUME_BACKENDS, name).SETTINGS or {}
            lines.append(f"``{name}``")
            for key, text in settings.items():
                lines += [f"    ``{key}``", f"        {text}", ""]
            if not settings:
                lines += ["    None.", ""]
        return _parsed(self, lines)


def _parsed(directive: rst.Directive, lines: list[str]) -> list[nodes.Node]:
    node = nodes.section()
    node.document = directive.state.document
    text = statemachine.StringList(lines, source="options")
    directive.state.nested_parse(text, directive.content_offset, node)
    return node.children


def setup(app: application.Sphinx) -> dict[str, bool]:
    """Register the directives."""
    app.add_directive("osd-options", Options)
    app.add_directive("osd-backends", Backends)
    return {"parallel_read_safe": True}
