"""The command `focus-detr`: one verb a file; a function's signature and docstring are its parser.

Exit codes: 0 done; 1 an unexpected error, with its traceback; 2 unusable input, option or file, said in one
message on stderr; 130 interrupted, 143 terminated.
"""

from focus_detr.cli.app import app, main

__all__ = ["app", "main"]
