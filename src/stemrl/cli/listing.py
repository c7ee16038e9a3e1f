"""`stemrl list [methods|families|cards|reference-agents|agents]`."""

from .. import registry
from ..errors import UserError, nearest
from .output import as_json, table
from .parser import Parser


def run(arguments: list[str]) -> int:
    """Print names and summaries."""
    parser = Parser(
        "list",
        "What stemrl knows by name.",
        "[methods|families|cards|reference-agents|agents] [--json]",
    )
    parser.add_argument(
        "kind", nargs="?", default=None, help="methods, families, cards, reference agents or agents"
    )
    parser.add_switch(
        "--json",
        "an array of objects with name and summary, and of methods and families the chapter",
    )
    options = parser.parse(arguments)
    if options.kind is not None and options.kind not in registry.KINDS:
        raise UserError(f"unknown kind '{options.kind}'{nearest(options.kind, registry.KINDS)}")
    kinds = list(registry.KINDS) if options.kind is None else [options.kind]
    found = {
        kind: [
            {"name": name, "summary": registry.KINDS[kind][name].summary}
            | ({"chapter": chapter} if kind in ("methods", "families") else {})
            for chapter, names in registry.by_chapter(kind).items()
            for name in names
        ]
        for kind in kinds
    }
    if options.json:
        print(as_json(found if options.kind is None else found[options.kind]))
        return 0
    for kind in kinds:
        if options.kind is None:
            print(f"{kind}:" if found[kind] else f"{kind}: none")
        if found[kind]:
            print(_table(found[kind]))
        if kind != kinds[-1]:
            print()
    return 0


def _table(entries: list[dict[str, str]]) -> str:
    """Names and summaries, a chapter's under its heading."""
    lines = table(("name", "summary"), [(one["name"], one["summary"]) for one in entries])
    head, *rows = lines.splitlines()
    shown, last = [head], ""
    for one, row in zip(entries, rows, strict=True):
        chapter = one.get("chapter", "")
        if chapter != last:
            shown += ["", f"{chapter or 'any environment'}:"]
        shown.append(row)
        last = chapter
    return "\n".join(shown)
