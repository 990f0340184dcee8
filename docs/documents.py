#!/usr/bin/env python3
"""Keeps the man pages, docs/REFERENCE.md and the bash completion in step with the programs.

What the programs say by --help, the table of configuration keys and that of exit codes is written between marker lines
in docs/man, docs/REFERENCE.md and packaging/completion; the prose around it is by hand.

    docs/documents.py --bin build/release/bin            says what is out of step; exit status 1 if anything is
    docs/documents.py --bin build/release/bin --update   writes it
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
MAN = ROOT / "docs" / "man"
REFERENCE = ROOT / "docs" / "REFERENCE.md"
COMPLETION = ROOT / "packaging" / "completion" / "curvegate.bash"
KEYS = ROOT / "src" / "config" / "keys.cpp"
EXIT_CODES = ROOT / "src" / "base" / "exit_code.hpp"


@dataclass(frozen=True)
class Option:
    """One option as --help shows it."""

    names: tuple[str, ...]
    value: str
    help: str

    @property
    def kind(self) -> str:
        """What may stand behind it; empty if nothing may."""
        return "FILE" if self.value.startswith("(=") else self.value.split(" (=")[0]

    @property
    def default(self) -> str | None:
        """None also for a path, which is that of the user who asks; the prose says which there are."""
        found = re.search(r"\(=([^/].*)\)$", self.value)
        return found.group(1) if found else None


@dataclass(frozen=True)
class Verb:
    """One verb of the command."""

    name: str
    arguments: str
    help: str
    options: tuple[Option, ...]

    @property
    def subverbs(self) -> tuple[str, ...]:
        """The words that may stand first, as in `list | add NAME KEY`."""
        words = (alternative.split(" ")[0] for alternative in self.arguments.split(" | ") if alternative)
        return tuple(word for word in words if re.fullmatch(r"[a-z]+", word))


@dataclass(frozen=True)
class Key:
    """One key of the configuration file."""

    name: str
    where: str
    value: str
    help: str

    @property
    def what_and_default(self) -> tuple[str, str]:
        """The sentence without the default at its end, and the default; empty if it names none."""
        found = re.fullmatch(r"(.*?) \(default:? (.*)\)", self.help)
        return (found.group(1), found.group(2)) if found else (self.help, "")


# ---- what the programs say ----


def output_of(program: Path, *arguments: str) -> str:
    """What a program prints."""
    done = subprocess.run([program, *arguments], capture_output=True, text=True, timeout=20, check=True)
    return done.stdout


_HEAD = re.compile(r"^  (?:(-\w) \[ )?(--[\w-]+)(?: \])?(?: (.+))?$")


def parse_options(text: str) -> tuple[Option, ...]:
    """The options of a --help text of Boost's making. The line of --help itself tells where the sentences begin."""
    lines = text.splitlines()
    column = next((m.end() for m in (re.match(r"^  (?:-h \[ )?--help(?: \])?\s+", line) for line in lines) if m), None)
    if column is None:
        return ()
    found: list[list[str]] = []
    for line in lines:
        if line.startswith("  -"):
            long_head = len(line) <= column or line[column - 1] != " "
            head, sentence = (line, "") if long_head else (line[:column], line[column:])
            found.append([head.rstrip(), sentence.strip()])
        elif found and line.startswith(" " * column) and line.strip():
            found[-1][1] = f"{found[-1][1]} {line.strip()}".strip()
    options = []
    for head, sentence in found:
        match = _HEAD.match(head)
        if match is None:
            raise ValueError(f"cannot read this line of --help: {head!r}")
        short, long, value = match.groups()
        names = (short, long) if short else (long,)
        options.append(Option(names, (value or "").removeprefix("arg").strip(), sentence))
    return tuple(options)


def read_verbs(bin_folder: Path) -> list[Verb]:
    """All that `curvegate --help` and `curvegate VERB --help` say."""
    program = bin_folder / "curvegate"
    verbs = []
    for line in output_of(program, "--help").splitlines():
        match = re.match(r"^  ([a-z][a-z-]*) +(.+)$", line)
        if match is None:
            continue
        name, sentence = match.groups()
        text = output_of(program, name, "--help")
        usage = re.match(rf"^usage: curvegate {re.escape(name)} ?(.*)$", text.splitlines()[0])
        if usage is None:
            raise ValueError(f"curvegate {name} --help begins without its usage")
        verbs.append(Verb(name, usage.group(1), sentence, parse_options(text)))
    if not verbs:
        raise ValueError("curvegate --help lists no verb")
    return verbs


_KEY = re.compile(
    r'\{"(?P<name>[a-z-]+)",\s*(?P<where>global|service|either),\s*'
    r'"(?P<value>[^"]*)",\s*(?P<help>(?:"[^"]*"\s*)+),'
)


def read_keys(source: Path = KEYS) -> list[Key]:
    """The table of configuration keys, from its source."""
    text = source.read_text()
    table = text[text.index("kKeys = ") : text.index("});", text.index("kKeys = "))]
    keys = [
        Key(m["name"], m["where"], m["value"], "".join(re.findall(r'"([^"]*)"', m["help"])))
        for m in _KEY.finditer(table)
    ]
    lines = len(re.findall(r'^ {4}\{"', table, re.MULTILINE))
    if not keys or lines != len(keys):
        raise ValueError(f"{source}: read {len(keys)} keys of {lines} lines; has the form of the table changed?")
    return keys


_CODE = re.compile(r"constexpr int (k\w+) = (\d+);")
_MEANING = re.compile(r'\{"(?P<program>[a-z-]+)",\s*(?P<code>k\w+),\s*(?P<text>(?:"[^"]*"\s*)+)\}')


def read_exit_codes(program: str, source: Path = EXIT_CODES) -> list[tuple[int, str]]:
    """What a program may end with, and what that means, from the table in the source."""
    text = source.read_text()
    numbers = {name: int(number) for name, number in _CODE.findall(text)}
    table = text[text.index("kMeanings = ") :]
    rows = list(_MEANING.finditer(table))
    lines = len(re.findall(r'^ {4}\{"', table, re.MULTILINE))
    codes = [
        (numbers[m["code"]], "".join(re.findall(r'"([^"]*)"', m["text"]))) for m in rows if m["program"] == program
    ]
    if not codes or lines != len(rows):
        raise ValueError(f"{source}: read {len(rows)} meanings of {lines} lines; has the form of the table changed?")
    return codes


# ---- man pages ----


def roff(text: str) -> str:
    """Text for a line of a man page."""
    escaped = text.replace("\\", "\\e").replace("-", "\\-").replace("'", "\\(aq").replace("`", "\\(ga")
    return "\\&" + escaped if escaped.startswith(".") else escaped


def sentence(text: str) -> str:
    """The tables have neither capitals nor full stops."""
    text = text.strip()
    text = text if re.match(r"[\w-]*:|[A-Z]", text) else text[:1].upper() + text[1:]
    return text if text.endswith(".") else text + "."


def man_option(option: Option) -> list[str]:
    """One entry of a list of options."""
    names = ", ".join(f"\\fB{roff(name)}\\fR" for name in option.names)
    lines = [".TP", names + (f" \\fI{roff(option.kind)}\\fR" if option.kind else "")]
    lines.append(roff(sentence(option.help)) + (f" Default: {roff(option.default)}." if option.default else ""))
    return lines


def man_verbs(verbs: list[Verb]) -> list[str]:
    """The section of each verb."""
    lines = []
    for verb in verbs:
        lines += [f".SS {roff(verb.name)}", f".B curvegate {roff(verb.name)}"]
        lines += [roff(verb.arguments)] if verb.arguments else []
        lines += [".PP", roff(sentence(verb.help))]
        for option in verb.options:
            lines += [] if "--help" in option.names else man_option(option)
    return lines


def man_options(bin_folder: Path, program: str) -> list[str]:
    """The options of a daemon."""
    options = parse_options(output_of(bin_folder / program, "--help"))
    if not options:
        raise ValueError(f"{program} --help shows no option")
    return [line for option in options for line in man_option(option)]


def man_keys(keys: list[Key], where: str) -> list[str]:
    """The configuration keys of one kind."""
    lines = []
    for key in keys:
        if key.where == where:
            lines += [".TP", f"\\fB{roff(key.name)}\\fR = \\fI{roff(key.value)}\\fR"]
            lines.append(roff(sentence(key.help)))
    return lines


def man_exit_codes(program: str) -> list[str]:
    """The list of what a program ends with."""
    return [line for code, text in read_exit_codes(program) for line in (".TP", f".B {code}", roff(sentence(text)))]


# ---- docs/REFERENCE.md ----


def markdown(text: str) -> str:
    """Text for a cell of a table."""
    return re.sub(r"([\\`*<|])", r"\\\1", text)


def typed(text: str) -> str:
    """The same as it is typed; empty if there is none. In a table even code may not hold a bare |."""
    return "`" + text.replace("|", "\\|") + "`" if text else ""


def markdown_table(head: str, rows: list[tuple[str, ...]]) -> list[str]:
    """A table with these titles, which stand between `|`."""
    lines = [f"| {head} |", "|" + "---|" * (head.count("|") + 1)]
    return lines + ["| " + " | ".join(row) + " |" for row in rows]


def reference_keys(keys: list[Key], where: str) -> list[str]:
    """The configuration keys of one kind."""
    rows = []
    for key in keys:
        if key.where == where:
            what, default = key.what_and_default
            rows.append((typed(key.name), typed(key.value), markdown(default), markdown(what)))
    return markdown_table("key | value | default | what", rows)


def reference_options(options: tuple[Option, ...]) -> list[str]:
    """The options of a program or a verb."""
    rows = []
    for option in options:
        names = ", ".join(typed(name) for name in option.names)
        default = f" Default: {markdown(option.default)}." if option.default else ""
        rows.append((f"{names} {typed(option.kind)}".strip(), markdown(sentence(option.help)) + default))
    return markdown_table("option | what", rows)


def reference_verbs(verbs: list[Verb]) -> list[str]:
    """The section of each verb, with a blank line between what stands in it."""
    lines = []
    for verb in verbs:
        options = tuple(option for option in verb.options if "--help" not in option.names)
        lines += [f"### curvegate {verb.name}", "", "```", f"curvegate {verb.name} {verb.arguments}".strip(), "```"]
        lines += ["", sentence(verb.help), ""]
        lines += [*reference_options(options), ""] if options else []
    return lines[:-1]


def reference_exit_codes() -> list[str]:
    """What each program may end with, side by side."""
    programs = ("curvegate", "curvegated", "curvegate-vault")
    meanings = {program: dict(read_exit_codes(program)) for program in programs}
    codes = sorted({number for of_one in meanings.values() for number in of_one})
    rows = [(str(number), *(markdown(meanings[p].get(number, "")) for p in programs)) for number in codes]
    return markdown_table("status | " + " | ".join(map(typed, programs)), rows)


# ---- bash completion ----


def bash_words(words: list[str]) -> str:
    """Words of a table; none of them may mean anything to the shell."""
    for word in words:
        if not re.fullmatch(r"[\w.|-]+", word):
            raise ValueError(f"not a word for the completion: {word!r}")
    return " ".join(words)


def bash_value(program: str, option: Option) -> str | None:
    """What may follow an option: words to choose from, or the kind of its value."""
    if not option.kind:
        return None
    line = " ".join(option.kind.split("|")) if "|" in option.kind else re.sub(r",\.\.\.$", "", option.kind)
    return "\n".join(f"    ['{program} {name}']='{line}'" for name in option.names)


def bash_tables(bin_folder: Path, verbs: list[Verb]) -> list[str]:
    """The tables that the completion looks words up in."""
    programs = [(verb.name, verb.options) for verb in verbs]
    for daemon in ("curvegated", "curvegate-vault"):
        programs.append((daemon, parse_options(output_of(bin_folder / daemon, "--help"))))
    lines = [f"_curvegate_verbs='{bash_words([verb.name for verb in verbs] + ['--help', '--version'])}'"]
    lines += ["declare -gA _curvegate_subverbs=("]
    lines += [f"    [{verb.name}]='{bash_words(list(verb.subverbs))}'" for verb in verbs if verb.subverbs]
    lines += [")", "declare -gA _curvegate_options=("]
    for name, options in programs:
        lines.append(f"    [{name}]='{bash_words([n for option in options for n in option.names] or ['--help'])}'")
    lines += [")", "declare -gA _curvegate_values=("]
    for name, options in programs:
        lines += [line for line in (bash_value(name, option) for option in options) if line]
    return lines + [")"]


# ---- the files ----


@dataclass(frozen=True)
class Block:
    """A generated part of a file."""

    path: Path
    name: str
    lines: Callable[[], list[str]]

    @property
    def markers(self) -> tuple[str, str]:
        begin, end = {".bash": ("# ", ""), ".md": ("<!-- ", " -->")}.get(self.path.suffix, ('.\\" ', ""))
        return f"{begin}generated: {self.name} (docs/documents.py){end}", f"{begin}end of {self.name}{end}"

    def renewed(self, text: str) -> str:
        """The file's text with this part as the programs have it now."""
        begin, end = self.markers
        if text.count(begin + "\n") != 1 or text.count(end + "\n") != 1:
            raise ValueError(f"{self.path}: want the lines {begin!r} and {end!r}, once each")
        head, rest = text.split(begin + "\n")
        tail = rest.split(end + "\n")[1]
        return head + begin + "\n" + "".join(line + "\n" for line in self.lines()) + end + "\n" + tail


def all_blocks(bin_folder: Path) -> list[Block]:
    """Every generated part of every file."""
    verbs, keys = read_verbs(bin_folder), read_keys()
    blocks = [Block(MAN / "curvegate.1", "verbs", lambda: man_verbs(verbs))]
    for daemon in ("curvegated", "curvegate-vault"):
        blocks.append(Block(MAN / f"{daemon}.8", "options", lambda daemon=daemon: man_options(bin_folder, daemon)))
    for page in ("curvegate.1", "curvegated.8", "curvegate-vault.8"):
        program = page.split(".")[0]
        blocks.append(Block(MAN / page, "exit", lambda program=program: man_exit_codes(program)))
    for where in ("global", "either", "service"):
        blocks.append(Block(MAN / "curvegate.conf.5", where, lambda where=where: man_keys(keys, where)))
        blocks.append(Block(REFERENCE, where, lambda where=where: reference_keys(keys, where)))
    blocks.append(Block(REFERENCE, "verbs", lambda: reference_verbs(verbs)))
    for daemon in ("curvegated", "curvegate-vault"):
        options = parse_options(output_of(bin_folder / daemon, "--help"))
        blocks.append(Block(REFERENCE, daemon, lambda options=options: reference_options(options)))
    blocks.append(Block(REFERENCE, "exit", reference_exit_codes))
    blocks.append(Block(COMPLETION, "tables", lambda: bash_tables(bin_folder, verbs)))
    return blocks


def stale_files(bin_folder: Path) -> dict[Path, str]:
    """The files that are out of step, and what they should say."""
    texts: dict[Path, str] = {}
    for block in all_blocks(bin_folder):
        texts[block.path] = block.renewed(texts.get(block.path) or block.path.read_text())
    return {path: text for path, text in texts.items() if text != path.read_text()}


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bin", type=Path, required=True, help="the folder of the programs")
    parser.add_argument("--update", action="store_true", help="write what is out of step")
    options = parser.parse_args()
    stale = stale_files(options.bin)
    for path, text in stale.items():
        print(f"{path.relative_to(ROOT)}: {'written' if options.update else 'out of step'}")
        if options.update:
            path.write_text(text)
    return 0 if options.update else int(bool(stale))


if __name__ == "__main__":
    sys.exit(main())
