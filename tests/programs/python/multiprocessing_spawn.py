"""CPython's multiprocessing tests with the start method «spawn»: its own test file of that name, which some builds leave out."""

import unittest

import test._test_multiprocessing

test._test_multiprocessing.install_tests_in_module_dict(globals(), "spawn")

if __name__ == "__main__":
    unittest.main()
