# SPDX-License-Identifier: Apache-2.0
"""Every source file says under which licence it stands."""


def test_source_files_begin_with_their_licence(source_tree):
    kinds = ("*.py", "*.sh", "*.js", "*.css")
    sources = [path for kind in kinds for path in source_tree.rglob(kind)]
    assert sources
    without = [
        str(path.relative_to(source_tree))
        for path in sources
        if path.stat().st_size
        and "SPDX-License-Identifier: Apache-2.0" not in path.read_text()[:200]
    ]
    assert without == []
