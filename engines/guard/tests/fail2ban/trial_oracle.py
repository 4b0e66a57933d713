"""Runs the installed fail2ban-regex, as its program does, once for each line of standard input, and answers with what it prints.

{"args": [...], "now": seconds}   "printed" are its lines; with "found": true, who did what and when, as its option -o sees it
"""

import json
import os
import sys
import time

sys.path.insert(0, os.environ.get("FAIL2BAN_PACKAGE", "/usr/lib/python3/dist-packages"))
os.environ["TZ"] = sys.argv[1]
time.tzset()

from fail2ban.client import fail2banregex
from fail2ban.server.ipdns import DNSUtils
from fail2ban.server.mytime import MyTime

# Nobody is asked for a name.
DNSUtils.dnsToIp = staticmethod(lambda dns: set())

printed, found = [], []
fail2banregex.output = lambda text: printed.extend(str(text).split("\n"))
fail2banregex.Fail2banRegex._prepaireOutput = lambda self: lambda ret: found.extend(
    [str(one[1]), one[2], one[3].get("user")] for one in ret
)

for line in sys.stdin:
    ask = json.loads(line)
    MyTime.setTime(ask["now"])
    printed.clear()
    found.clear()
    error = None
    try:
        fail2banregex.exec_command_line(ask["args"])
    except SystemExit as end:
        error = "exit code %s" % end.code
    except Exception as failed:
        error = "%s: %s" % (type(failed).__name__, failed)
    print(json.dumps({"printed": printed, "found": found, "error": error}), flush=True)
