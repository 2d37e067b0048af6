#!/usr/bin/env python3
"""The manual pages say all that the help texts say, and are correct man(7).

    man_test.py PROGRAM=PAGE … --parser DIRECTORY --config PAGE
"""

import argparse
import pathlib
import re
import shutil
import subprocess
import sys
import unittest

ARGUMENTS = argparse.Namespace()

OPTION = re.compile(r"(?<![\w-])--?[a-zA-Z][\w-]*")
COMMAND = re.compile(r"^  ([a-z][\w-]*)  ", re.MULTILINE)


def help_of(program, *words):
    done = subprocess.run([program, *words, "--help"], capture_output=True, text=True, check=True)
    return done.stdout


def plain(page):
    """The page without escapes and fonts."""
    text = re.sub(r"\\f[A-Z]", "", pathlib.Path(page).read_text(encoding="utf-8"))
    return text.replace("\\-", "-").replace("\\&", "")


def commands_of(text):
    _, found, rest = text.partition("Subcommands:\n")
    return COMMAND.findall(rest.split("\n\n")[0] + "\n") if found else []


def every_help(program):
    """The help texts of the program, its commands and theirs; of another program's verbs none."""
    texts = {"": help_of(program)}
    for command in commands_of(texts[""]):
        if command in ("decap", "bench"):
            continue
        texts[command] = help_of(program, command)
        for inner in commands_of(texts[command]):
            texts[f"{command} {inner}"] = help_of(program, command, inner)
    return texts


def parser_keys(directory):
    """The words that maps of a configuration have, from the first list of each Fields."""
    keys = set()
    for path in sorted(pathlib.Path(directory).glob("config*.cpp")):
        text = path.read_text(encoding="utf-8")
        for match in re.finditer(r"Fields\s+\w+\{reader_?,.*?\{\{(.*?)\}", text, re.DOTALL):
            keys.update(re.findall(r'"(\w+)"', match.group(1)))
    return keys


class ManualPages(unittest.TestCase):

    def test_every_option_of_a_help_text_is_in_its_page(self):
        for program, page in ARGUMENTS.pages:
            text = plain(page)
            for command, help_text in every_help(program).items():
                # What stands left of its description; examples are not options.
                options = {o for line in help_text.splitlines() if line.startswith("  -")
                           for o in OPTION.findall(line.split("  ")[1])}
                self.assertTrue(options, f"{program} {command} has no options")
                for option in options - {"-h"}:
                    self.assertRegex(text, rf"(?<![\w-]){re.escape(option)}(?![\w-])",
                                     f"{option} of '{command}' is not in {page}")

    def test_every_command_is_in_its_page(self):
        for program, page in ARGUMENTS.pages:
            text = plain(page)
            for command in every_help(program):
                if command:
                    name = f"{pathlib.Path(program).name} {command}"
                    self.assertIn(name, text)

    def test_every_word_of_the_parser_is_in_the_page_of_the_configuration(self):
        keys = parser_keys(ARGUMENTS.parser)
        self.assertGreater(len(keys), 60, "the parser's words are not found any more")
        text = pathlib.Path(ARGUMENTS.config).read_text(encoding="utf-8")
        bold = set(re.findall(r"\\fB([\w.]+)\\fR", text)) | set(re.findall(r"^\.B (\w+)$", text,
                                                                           re.MULTILINE))
        self.assertEqual(keys - bold, set())

    def test_man_warns_of_nothing(self):
        if shutil.which("man") is None:
            self.skipTest("man is not installed")
        for page in self.every_page():
            done = subprocess.run(["man", "--warnings", "-E", "UTF-8", "-l", "-P", "cat", page],
                                  capture_output=True, text=True, check=False)
            self.assertEqual((done.returncode, done.stderr), (0, ""), page)

    def test_mandoc_finds_nothing(self):
        if shutil.which("mandoc") is None:
            self.skipTest("mandoc is not installed")
        for page in self.every_page():
            done = subprocess.run(["mandoc", "-Tlint", page], capture_output=True, text=True,
                                  check=False)
            self.assertEqual((done.returncode, done.stdout), (0, ""), page)

    @staticmethod
    def every_page():
        return [page for _, page in ARGUMENTS.pages] + [ARGUMENTS.config]


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pages", nargs="+", type=lambda text: text.split("="))
    parser.add_argument("--parser", required=True)
    parser.add_argument("--config", required=True)
    parser.parse_args(namespace=ARGUMENTS)
    unittest.main(argv=sys.argv[:1])


if __name__ == "__main__":
    main()
