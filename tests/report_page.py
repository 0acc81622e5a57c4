"""Reader of a report's page that holds it to what HTML allows, and to needing nothing beside itself."""

import re
from html.parser import HTMLParser

_VOID = {"meta", "img", "br"}
_SVG_EMPTY = {"rect", "path", "circle", "polyline", "polygon", "text"}
_SVG = frozenset({"g", "rect", "path", "circle", "polyline", "polygon", "text"})
_PHRASING = frozenset({"b", "span", "i", "a", "br", "img", "svg"})
_FLOW = _PHRASING | {"p", "h1", "h2", "h3", "div", "table", "figure", "pre", "section", "header", "footer"}
CHILDREN: dict[str, frozenset[str]] = {
    "": frozenset({"html"}), "html": frozenset({"head", "body"}), "head": frozenset({"meta", "title", "style"}),
    "body": frozenset({"main"}), "main": _FLOW, "section": _FLOW, "header": _FLOW - {"header", "footer"},
    "div": _FLOW, "figure": _FLOW | {"figcaption"}, "figcaption": _FLOW, "td": _FLOW, "th": _PHRASING,
    "table": frozenset({"caption", "thead", "tbody"}), "thead": frozenset({"tr"}), "tbody": frozenset({"tr"}),
    "tr": frozenset({"th", "td"}), "caption": _PHRASING, "footer": _PHRASING, "svg": _SVG, "g": _SVG | {"title"},
    **dict.fromkeys(("p", "h1", "h2", "h3", "b", "span", "i", "pre"), _PHRASING), "a": _PHRASING - {"a"},
    **dict.fromkeys(("title", "style", "text"), frozenset()), **dict.fromkeys(("rect", "path"), frozenset({"title"})),
}  # fmt: skip
"""Elements that HTML's content models, and SVG's, allow in those that a report has; no others may have any."""
ATTRIBUTES: dict[str, set[str]] = {
    "html": {"lang"}, "meta": {"charset", "name", "content", "http-equiv"}, "a": {"href"}, "th": {"scope"},
    "img": {"src", "width", "height", "alt"}, "i": {"style"},
}  # fmt: skip
"""Attributes beside class and id."""


class Page(HTMLParser):
    """A valid page: elements closed in order, and only where they may stand; keeps tags, attributes, visible text."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.text = ""
        self._open: list[str] = []
        self._cells: list[int] = []
        """Number of cells of every row of the table that is open."""
        self.feed(text)
        self.close()
        assert self._open == []

    def _begin(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        parent = self._open[-1] if self._open else ""
        assert tag in CHILDREN.get(parent, ()), f"<{tag}> in <{parent}>"
        if "svg" not in (tag, *self._open):
            unknown = {name for name, _ in attrs} - {"class", "id"} - ATTRIBUTES.get(tag, set())
            assert not unknown, f"<{tag}> has {unknown}"
        assert len({name for name, _ in attrs}) == len(attrs), "an attribute twice"
        if tag == "img":
            assert {"src", "alt", "width", "height"} <= {name for name, value in attrs if value}
        if tag == "table":
            self._cells = []
        elif tag == "tr":
            self._cells.append(0)
        elif tag in {"td", "th"}:
            self._cells[-1] += 1
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._begin(tag, attrs)
        if tag not in _VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in _SVG_EMPTY, "only elements of SVG close themselves"
        self._begin(tag, attrs)

    def handle_endtag(self, tag: str) -> None:
        assert self._open, f"</{tag}> closes nothing"
        assert self._open.pop() == tag
        if tag == "table":
            assert len(set(self._cells)) == 1, f"rows of {self._cells} cells"

    def handle_data(self, data: str) -> None:
        if not {"style"} & set(self._open):
            self.text += data.replace("\u00a0", " ")


def check(text: str) -> Page:
    """Return a page after the checks that hold for every one: nothing is fetched, nothing runs."""
    page = Page(text)
    assert text.startswith("<!DOCTYPE html>")
    assert page.tags.count("html") == page.tags.count("body") == 1
    assert not {"script", "iframe", "object", "embed", "link", "base", "form", "foreignobject"} & set(page.tags)
    for tag, name, value in page.attributes:
        assert not name.startswith("on"), (tag, name)
        if name in {"src", "href", "srcset", "action", "data", "poster", "xlink:href"}:
            assert value.startswith(("data:image/", "#run-")), (tag, name, value[:40])
    titles = re.findall("<title>(.*?)</title>\n<style>", text, re.DOTALL)
    assert len(titles) == 1
    assert titles[0].strip()
    assert "url(" not in text
    assert "@import" not in text
    ids = [value for _, name, value in page.attributes if name == "id"]
    assert len(set(ids)) == len(ids)
    assert text == text.encode().decode()
    return page
