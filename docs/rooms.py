"""Measures the house: folders, who imports whom, circles, the biggest folder. `make rooms`, or with another checkout's path.

A folder is a package with files of its own; an arrow from one to another is any import, wherever it stands in the file.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path

LEFT_OUT = ("tests", "bench", "docs", "migrations", "management")
Arrows = Mapping[str, set[str]]


def modules(root: Path) -> dict[str, Path]:
    """Every module of the product by its dotted name."""
    listed = subprocess.run(["git", "ls-files", "*.py"], cwd=root, capture_output=True, text=True, check=True).stdout
    files = [Path(line) for line in listed.splitlines()]
    kept = [file for file in files if len(file.parts) > 1 and not set(file.parts) & set(LEFT_OUT)]
    return {".".join(file.with_suffix("").parts).removesuffix(".__init__"): root / file for file in kept}


def imported(path: Path, known: Mapping[str, Path]) -> Iterator[str]:
    """The modules of the product that a file imports."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in known)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names = {f"{node.module}.{alias.name}" for alias in node.names} & known.keys()
            yield from names
            if node.module in known and len(names) < len(node.names):
                yield node.module


def folder(module: str, path: Path) -> str:
    return module if path.name == "__init__.py" else module.rpartition(".")[0]


def circles(arrows: Arrows) -> list[list[str]]:
    """Groups that reach each other, by walking from each (there are few)."""
    reach: dict[str, set[str]] = {}
    for start in arrows:
        seen, left = set[str](), [start]
        while left:
            for target in arrows.get(left.pop(), set()) - seen:
                seen.add(target)
                left.append(target)
        reach[start] = seen
    groups = {tuple(sorted(b for b in reach[a] if a in reach.get(b, set()))) for a in arrows if a in reach[a]}
    return [list(group) for group in sorted(groups)]


def main() -> None:
    root = Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).parent.parent).resolve()
    known = modules(root)
    between_files, between_folders = defaultdict[str, set[str]](set), defaultdict[str, set[str]](set)
    lines, files = Counter[str](), Counter[str]()
    for module, path in known.items():
        here = folder(module, path)
        if size := len(path.read_text().splitlines()):
            lines[here] += size
            files[here] += 1
        for target in set(imported(path, known)) - {module}:
            between_files[module].add(target)
            if (there := folder(target, known[target])) != here:
                between_folders[here].add(there)
    total = sum(lines.values())
    print(f"{'folder':<28}{'files':>6}{'lines':>8}{'share':>7}  imports")
    for name in sorted(lines):
        targets = " ".join(sorted(between_folders[name]))
        print(f"{name:<28}{files[name]:>6}{lines[name]:>8}{lines[name] / total:>7.0%}  {targets}")
    biggest, size = lines.most_common(1)[0]
    fullest, count = files.most_common(1)[0]
    print(f"\nfolders {len(lines)}, arrows between them {sum(map(len, between_folders.values()))}")
    print(f"import circles {len(circles(between_files))}")
    for circle in circles(between_files):
        print(f"  {', '.join(circle)}")
    print(f"biggest folder: {biggest}, {size / total:.0%} of {total} lines; most files: {fullest}, {count}")


if __name__ == "__main__":
    main()
