"""Runs one module of CPython's own tests and writes each test's verdict to verdicts.txt, sorted.

A pattern is a glob over the test's full name.
"""

import argparse
import fnmatch
import unittest

from test import support


class Verdicts(unittest.TextTestResult):
    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        self.verdicts = {}

    def note(self, test, verdict):
        # A test that failed in one part stays failed, whatever its other parts did.
        self.verdicts.setdefault(test.id(), verdict)

    def addSuccess(self, test):
        super().addSuccess(test)
        self.note(test, "ok")

    def addFailure(self, test, err):
        super().addFailure(test, err)
        self.note(test, "failed")

    def addError(self, test, err):
        super().addError(test, err)
        self.note(test, "error")

    def addSkip(self, test, reason):
        super().addSkip(test, reason)
        self.note(test, "skipped")

    def addExpectedFailure(self, test, err):
        super().addExpectedFailure(test, err)
        self.note(test, "failed as expected")

    def addUnexpectedSuccess(self, test):
        super().addUnexpectedSuccess(test)
        self.note(test, "unexpected success")

    def addSubTest(self, test, subtest, err):
        super().addSubTest(test, subtest, err)
        if err is not None:
            self.note(test, "failed")


def tests_of(suite):
    for item in suite:
        if isinstance(item, unittest.TestSuite):
            yield from tests_of(item)
        else:
            yield item


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("module")
    parser.add_argument("--only", action="append", default=[], metavar="PATTERN")
    parser.add_argument("--without", action="append", default=[], metavar="PATTERN")
    arguments = parser.parse_args()

    # As `python -m test` does without -u: no network, no gigabytes, no minutes of CPU.
    support.use_resources = []

    def wanted(test):
        matches = lambda pattern: fnmatch.fnmatchcase(test.id(), pattern)
        return (not arguments.only or any(map(matches, arguments.only))) and not any(map(matches, arguments.without))

    everything = unittest.defaultTestLoader.loadTestsFromName(arguments.module)
    suite = unittest.TestSuite(filter(wanted, tests_of(everything)))
    result = unittest.TextTestRunner(resultclass=Verdicts, verbosity=2).run(suite)
    with open("verdicts.txt", "w") as out:
        for name, verdict in sorted(result.verdicts.items()):
            print(name, verdict, file=out)
        # Counted apart: a test that errs in its set-up has no name of its own.
        print("run", result.testsRun, file=out)


if __name__ == "__main__":
    main()
