"""The preparation of the site of the documents, and its policy."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import docs_site
from tests.docs_site import policy, rewritten, write_sources


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "docs" / "guides").mkdir(parents=True)
    (tmp_path / "deploy").mkdir()
    (tmp_path / "deploy" / "nginx.conf").write_text("server {}")
    (tmp_path / "README.md").write_text("[guide](docs/guides/a.md#top) [deploy](deploy) ![p](docs/p.png)\n")
    (tmp_path / "CHANGELOG.md").write_text("# Changelog\n")
    (tmp_path / "docs" / "p.png").write_bytes(b"x")
    (tmp_path / "docs" / "guides" / "a.md").write_text(
        "[`x`](../../deploy/nginx.conf) [start](../../README.md#start) <https://a.example> [b](https://b.example)\n"
        "```\n[no](link)\n```\n[changes](../../CHANGELOG.md)\n"
    )
    monkeypatch.setattr(docs_site, "ROOT", tmp_path)
    monkeypatch.setattr(docs_site, "SOURCES", tmp_path / "build")
    return tmp_path


def test_links_work_in_the_site(project: Path) -> None:
    """A link to a document leads to its page, one to another file to a copy, and one to a folder becomes text."""
    write_sources()
    assert (project / "build/index.md").read_text() == "[guide](guides/a.md#top) deploy ![p](p.png)\n"
    assert (project / "build/guides/a.md").read_text() == (
        "[`x`](../files/deploy/nginx.conf.txt) [start](../index.md#start) <https://a.example> [b](https://b.example)\n"
        "```\n[no](link)\n```\n[changes](../CHANGELOG.md)\n"
    )
    assert (project / "build/files/deploy/nginx.conf.txt").read_text() == "server {}"


def test_a_link_that_leads_nowhere_is_an_error(project: Path) -> None:
    """The error names the document and the target."""
    (project / "docs" / "b.md").write_text("[gone](gone.md)")
    with pytest.raises(ValueError, match=r"docs/b\.md: gone\.md doesn't exist"):
        rewritten(project / "docs" / "b.md")


def test_the_policy_allows_the_pages_own_inline_scripts_only() -> None:
    """Inline scripts are allowed by their hashes. Data isn't a script, and a script with an address needs no hash."""
    page = '<script>let a</script><script id="c" type="application/json">{}</script><script src="a.js"></script>'
    made = policy([page, page])
    assert made.count("'sha256-") == 1
    assert "script-src 'self' 'sha256-" in made
    assert "unsafe-inline" not in made.partition("style-src")[0]


def test_things_from_elsewhere_are_found() -> None:
    """A script, a style or a font of another site is found. A link that a reader may follow isn't one."""
    for text in (
        '<script src="https://a.example/x.js">',
        "<link rel=stylesheet href=//a.example/x.css>",
        "url(https://a.example/f)",
    ):
        assert docs_site._ELSEWHERE.search(text), text
    assert not docs_site._ELSEWHERE.search('<a href="https://a.example">')
