# SPDX-License-Identifier: Apache-2.0
"""The support matrix in Nova's format, put into a page."""

import configparser
import pathlib

from docutils import nodes, statemachine
from docutils.parsers import rst
from sphinx import application

_DRIVER = "container-stack"


class Matrix(rst.Directive):
    """``nova-support-matrix:: FILE``: a table of what a driver can do."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Return the table."""
        environment = self.state.document.settings.env
        path = pathlib.Path(environment.srcdir) / self.arguments[0]
        environment.note_dependency(str(path))
        parser = configparser.ConfigParser(interpolation=None)
        parser.read(path, encoding="utf-8")
        lines = [".. list-table::", "   :header-rows: 1", "   :widths: 45 12 43", ""]
        rows = [("Feature", "State", "Notes")]
        for name in parser.sections():
            section = parser[name]
            if f"driver.{_DRIVER}" in section:
                notes = " ".join(section.get(f"driver-notes.{_DRIVER}", "").split())
                rows.append((section["title"], section[f"driver.{_DRIVER}"], notes))
        for row in rows:
            lines += [f"   {' ' if index else '*'} - {cell}" for index, cell in enumerate(row)]
        node = nodes.section()
        node.document = self.state.document
        text = statemachine.StringList(lines, source=str(path))
        self.state.nested_parse(text, self.content_offset, node)
        return node.children


def setup(app: application.Sphinx) -> dict[str, bool]:
    """Register the directive."""
    app.add_directive("nova-support-matrix", Matrix)
    return {"parallel_read_safe": True}
