"""Runs a command of `garant protect` on a terminal, as a person who agrees and keeps the key, mistypes it, or presses Ctrl-C instead.

Usage: protect_at_terminal.py keep|mistype|interrupt PROGRAM ARGUMENT…
Ends with the exit code of the program; what the terminal showed is on standard output.
"""

import os
import pty
import re
import sys

what, command = sys.argv[1], sys.argv[2:]
child, terminal = pty.fork()
if child == 0:
    os.execvp(command[0], command)

shown, answered = "", 0
while True:
    try:
        part = os.read(terminal, 4096)
    except OSError:  # the other side is closed
        break
    if not part:
        break
    shown += part.decode(errors="replace")
    unanswered = shown[answered:]
    if "[y/N]" in unanswered:
        answered = len(shown)
        os.write(terminal, b"y\n")
    elif question := re.search(r"characters (\d+) to (\d+)\?", unanswered):
        answered = len(shown)
        key = re.search(r"shown once:\s+(\S+)", shown).group(1)
        asked = key[int(question.group(1)) - 1 : int(question.group(2))]
        os.write(terminal, {"keep": asked + "\n", "mistype": "wrong\n", "interrupt": "\x03"}[what].encode())
print(shown)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
