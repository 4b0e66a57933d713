"""What the installed fail2ban makes of the dates of lines: what garant is compared with.

    dates_oracle.py ZONE STARTED < scenarios > answers

ZONE is of the IANA database, STARTED seconds since 1970. A scenario is a line of JSON: `datepattern` (or null), `log_zone` (or
null) and `lines`, a list of pairs of a line and of the time it is read at. Its answer is a line of JSON: for each line null (no
date), "dropped" (an error drops it), or a list of template (counted from 0), start and end of the match, start and end of
what is cut, all in characters, and the time: seconds, "unreadable", or "dropped". An error of the pattern is the text of it.
"""

import datetime
import json
import os
import sys
import time

zone, started = sys.argv[1], int(sys.argv[2])
os.environ["TZ"] = zone
time.tzset()

# fail2ban takes the years that it reads from the time at which it is loaded.
real = datetime.datetime


class Then(real):
    @classmethod
    def now(cls, tz=None):
        return real.fromtimestamp(started, tz)


datetime.datetime = Then
sys.path.insert(0, "/usr/lib/python3/dist-packages")
import fail2ban.server.strptime  # noqa: E402

datetime.datetime = real
import logging  # noqa: E402

from fail2ban.server import datedetector  # noqa: E402
from fail2ban.server.filter import Filter  # noqa: E402
from fail2ban.server.mytime import MyTime  # noqa: E402

logging.getLogger("fail2ban").setLevel(logging.CRITICAL)


class Clock:
    """The module `time` as the detector sees it."""

    @staticmethod
    def time():
        return MyTime.time()


datedetector.time = Clock


def answers(scenario):
    MyTime.setTime(started)
    holder = Filter.__new__(Filter)
    holder._Filter__logtimezone = scenario["log_zone"]
    try:
        holder.setDatePattern(scenario["datepattern"] or "")
    except Exception as error:
        return str(error) or "error"
    return list(of_lines(holder.dateDetector, scenario["lines"]))


def of_lines(detector, lines):
    if not detector.templates:
        detector.addDefaultTemplate()
    order = [entry.template for entry in detector.templates]
    for line, now in lines:
        MyTime.setTime(now)
        try:
            match, template = detector.matchTime(line)
        except Exception:
            yield "dropped"
            continue
        if match is None:
            yield None
            continue
        start, end = match.start(1), match.end(1)
        cut = line[start:end]
        # Python takes the place -1 for the last character.
        front = len(line[:start])
        try:
            found = detector.getTime(cut, (match, template))
            instant = "unreadable" if found is None else found[0]
        except Exception:
            instant = "dropped"
        yield [order.index(template), match.start(), match.end(), front, front + len(cut), instant]


for text in sys.stdin:
    scenario = json.loads(text)
    reading, writing = os.pipe()
    # A child of its own for each: `mktime` and the templates remember what they saw.
    child = os.fork()
    if child == 0:
        os.close(reading)
        with os.fdopen(writing, "w") as out:
            out.write(json.dumps(answers(scenario)))
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        print(pipe.read(), flush=True)
    os.waitpid(child, 0)
