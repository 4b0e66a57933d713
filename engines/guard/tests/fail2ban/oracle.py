#!/usr/bin/python3
"""Answers with what the installed fail2ban decides: one JSON object a line on stdin, one a line on stdout.

{"do": "samples"}                          the sample suite of the package: every line, for each filter and its options
{"do": "names"}                            the names of all filters, with the folder of their configuration
{"do": "open", "id", "name", "base", "options", ...}   a filter of the configuration; its definition comes back
{"do": "define", "id", "definition", ...}  a filter from a definition
{"do": "lines", "id", "now", "lines"}      what it finds in lines, one after the other
{"do": "addresses", "texts"}               how texts are read as addresses
{"do": "search", "pattern", "flags", "texts"}   what `re` finds

Settings of a filter: "check_all_regex", "raw_host", "check_find_time", "in_operation", "find_time", "use_dns", "names".
"""

import datetime
import json
import os
import re
import shutil
import signal
import sys
import tempfile
import time
import warnings

warnings.simplefilter("ignore")
sys.path.insert(0, os.environ.get("FAIL2BAN_PACKAGE", "/usr/lib/python3/dist-packages"))
os.environ["TZ"] = "Europe/Zurich"
time.tzset()

import logging

logging.disable(logging.CRITICAL)

import fail2ban
from fail2ban.server.mytime import MyTime

# The years that a date may be of are fixed when the program starts: on 2026-01-01. Later, the age of caches and of date
# templates follows the time of the test.
MyTime.setTime(1767225600)
time.time = lambda: MyTime.myTime
real = datetime.datetime


class Started(real):
    @classmethod
    def now(cls, tz=None):
        return real.fromtimestamp(1767225600, tz)


datetime.datetime = Started
from fail2ban.server import strptime

datetime.datetime = real

from fail2ban.client.filterreader import FilterReader
from fail2ban.server import datedetector, filter as server_filter, ipdns
from fail2ban.server.filter import Filter

PACKAGE = os.path.dirname(fail2ban.__file__)
CONFIG = os.environ.get("FAIL2BAN_CONFIG", "/etc/fail2ban")
# The filters of the tests include a `config` four folders up in the sources, seven up where Debian builds, nowhere in the package.
TREE = tempfile.TemporaryDirectory(prefix="fail2ban-")
BUILT = os.path.join(TREE.name, "1", "2", "3")
TEST_CONFIG = os.path.join(BUILT, "fail2ban", "tests", "config")
shutil.copytree(os.path.join(PACKAGE, "tests", "config"), TEST_CONFIG)
for folder in (TREE.name, BUILT):
    os.symlink(CONFIG, os.path.join(folder, "config"))
SAMPLES = os.path.join(PACKAGE, "tests", "files", "logs")
TEST_NOW = 1124013600

MyTime.setTime(TEST_NOW)

NAMES = {}


def looked_up(name):
    return {ipdns.IPAddr(address) for address in NAMES.get(name, ())}


ipdns.DNSUtils.dnsToIp = staticmethod(looked_up)



class Slow(BaseException):
    """A line on which `re` takes longer than anybody waits, in time of the processor: other work slows nothing."""


is_timed = False


def give_up(*_):
    # One that comes late, after the line, is none.
    if is_timed:
        raise Slow()


signal.signal(signal.SIGPROF, give_up)

filters = {}
shared = {}


def definition(name, base, options):
    reader = FilterReader(name, "jail", dict(options), basedir=base, share_config=shared.setdefault(base, {}))
    reader.read()
    reader.getOptions({})
    found = {
        "name": name, "prefregex": None, "failregex": [], "ignoreregex": [], "datepattern": None, "maxlines": 1,
        "journalmatch": [],
    }
    for option in reader.convert():
        values = option[3] if option[0] == "multi-set" else [option[3]]
        key = option[2]
        if key == "addjournalmatch":
            found["journalmatch"].append(list(option[3:]))
            continue
        for value in values:
            if key == "prefregex":
                found["prefregex"] = value
            elif key == "addfailregex":
                found["failregex"].append(value)
            elif key == "addignoreregex":
                found["ignoreregex"].append(value)
            elif key == "maxlines":
                found["maxlines"] = int(value)
            elif key == "datepattern":
                found["datepattern"] = value
    return found


TEMPLATES = list(datedetector.DateDetectorCache.DEFAULT_TEMPLATES)


def forget():
    """Date templates count their hits for all filters of a process: each filter here starts as in a process of its own."""
    datedetector.DateDetectorCache.DEFAULT_TEMPLATES = list(TEMPLATES)
    datedetector.DateDetector._defCache = datedetector.DateDetectorCache()
    datedetector.DD_patternCache.clear()


class Opened:
    def __init__(self, found, ask):
        forget()
        self.filter = flt = Filter(None, useDns=ask.get("use_dns", "warn"))
        flt.returnRawHost = ask.get("raw_host", True)
        flt.checkAllRegex = ask.get("check_all_regex", True)
        flt.checkFindTime = ask.get("check_find_time", False)
        flt.inOperation = ask.get("in_operation", True)
        flt.ignorePending = ask.get("ignore_pending", True)
        flt.active = True
        if "find_time" in ask:
            flt.setFindTime(ask["find_time"])
        if ask.get("log_time_zone"):
            flt.setLogTimeZone(ask["log_time_zone"])
        # The order of the options in the stream of the client: maxlines is known before the patterns that depend on it.
        flt.setMaxLines(found["maxlines"])
        if found["prefregex"]:
            flt.prefRegex = found["prefregex"]
        for pattern in found["failregex"]:
            flt.addFailRegex(pattern)
        for pattern in found["ignoreregex"]:
            flt.addIgnoreRegex(pattern)
        if found["datepattern"]:
            flt.setDatePattern(found["datepattern"])
        self.seen = None
        self.slow = False
        inner = flt.findFailure

        def find(cut, date, noDate=False):
            self.seen = (list(cut), date, noDate)
            return inner(cut, date, noDate)

        flt.findFailure = find

    def line(self, ask):
        self.seen = None
        if self.slow:
            return {"slow": True}
        global is_timed
        try:
            is_timed = True
            signal.setitimer(signal.ITIMER_PROF, 0.5)
            if ask.get("date") is not None:
                found = self.filter.processLine(tuple(ask["cut"]), ask["date"])
            else:
                found = self.filter.processLine(ask["line"])
            answer = {"matches": [match(*one) for one in found]}
        except Exception as error:
            answer = {"error": "%s: %s" % (type(error).__name__, error)}
        except Slow:
            # What follows can't be compared: the state is that of half a line.
            self.slow = True
            answer = {"slow": True}
        finally:
            is_timed = False
            signal.setitimer(signal.ITIMER_PROF, 0)
        if self.seen is not None:
            answer["cut"], answer["date"], answer["no_date"] = self.seen
        return answer


def plain(value):
    if isinstance(value, (set, frozenset)):
        return sorted(plain(one) for one in value)
    if isinstance(value, (tuple, list)):
        return [plain(one) for one in value]
    if isinstance(value, ipdns.IPAddr):
        return plain(value.ntoa)
    return value


def match(regex, fid, date, fail):
    return {
        "regex": regex + 1,
        "id": None if fid is None else plain(fid.ntoa),
        "family": None if fid is None else {2: 4, 10: 6}.get(fid.family),
        "prefix": None if fid is None else fid.plen,
        "time": date,
        "attempts": len(fail.get("matches", ())),
        "fields": {key: plain(value) for key, value in sorted(fail.items())
                   if key not in ("matches", "nofail-matches") and value is not None and not key.startswith("skiplines")},
    }


def samples():
    """The walk of samplestestcase.py: which filter sees which line, with which annotation."""
    steps = []
    for base, wanted in (
        (CONFIG, lambda x: not x.endswith("common.conf") and x.endswith(".conf")),
        (TEST_CONFIG, lambda x: x.startswith("zzz-") and x.endswith(".conf")),
    ):
        for file in sorted(filter(wanted, os.listdir(os.path.join(base, "filter.d")))):
            name = file.rpartition(".")[0]
            if name.startswith("."):
                continue
            if not os.path.isfile(os.path.join(SAMPLES, name)):
                steps.append({"base": base, "name": name, "missing": True})
                continue
            steps.extend(samples_of(base, name))
    return steps


def samples_of(base, name):
    files, common, tests, steps = [name], {}, None, []
    for file in files:
        with open(os.path.join(SAMPLES, file), "rb") as opened:
            content = opened.read().decode("utf-8", "replace")
        lines = iter([line.rstrip("\r\n") for line in content.split("\n")[:-1]] + ([content.split("\n")[-1]] if not content.endswith("\n") else []))
        ignore, number = False, 0
        for line in lines:
            number += 1
            marked = re.match("^#+ ?(failJSON|(?:file|filter)Options|addFILE):(.+)$", line)
            if marked:
                data = json.loads(marked.group(2))
                if marked.group(1) == "fileOptions":
                    common = data
                    continue
                if marked.group(1) == "filterOptions":
                    tests, ignore = [], False
                    for one in data if isinstance(data, list) else [data]:
                        options = dict(common, **one)
                        if options.get("test.condition"):
                            ignore = not eval(options["test.condition"])
                        if not ignore:
                            tests.append(options)
                    continue
                if marked.group(1) == "addFILE":
                    files.append(data)
                    continue
                line = next(lines)
                number += 1
            elif ignore or line.startswith("#") or not line.strip():
                continue
            else:
                data = {}
            if ignore:
                continue
            for options in tests or [{}]:
                if data.get("constraint") and not eval(data["constraint"], {"name": name, "opts": options, "fltName": ""}):
                    continue
                given = {k: v for k, v in options.items() if not k.startswith("test.")}
                steps.append({
                    "base": base, "name": name, "options": given, "key": options.get("test.filter-name", ""), "file": file, "number": number,
                    "line": (options.get("test.prefix-line", "") if options.get("logtype") == "journal" else "") + line.rstrip("\r\n"),
                    "journal": options.get("logtype") == "journal", "expect": data,
                })
    return steps


def names():
    found = []
    for base in (CONFIG, TEST_CONFIG):
        for file in sorted(os.listdir(os.path.join(base, "filter.d"))):
            if file.endswith(".conf") and not file.endswith("common.conf"):
                found.append({"base": base, "name": file[:-5]})
    return found


def search(ask):
    try:
        pattern = re.compile(ask["pattern"], ask.get("flags", 0))
    except Exception as error:
        return {"error": str(error)}
    found = []
    for text in ask["texts"]:
        m = pattern.search(text)
        found.append(None if m is None else {"start": m.start(), "end": m.end(), "groups": m.groupdict()})
    return {"found": found}


def answer(ask):
    do = ask["do"]
    if do == "samples":
        return {"steps": samples()}
    if do == "names":
        return {"names": names()}
    if do in ("open", "define"):
        zone = ask.get("zone", "Europe/Zurich")
        os.environ["TZ"] = zone
        time.tzset()
        try:
            found = ask["definition"] if do == "define" else definition(ask["name"], ask.get("base", CONFIG), ask.get("options", {}))
            filters[ask["id"]] = Opened(found, ask)
        except Exception as error:
            return {"error": "%s: %s" % (type(error).__name__, error)}
        return {"definition": found}
    if do == "definition":
        return {"definition": definition(ask["name"], ask.get("base", CONFIG), ask.get("options", {}))}
    if do == "close":
        filters.pop(ask["id"], None)
        return {}
    if do == "lines":
        MyTime.setTime(ask.get("now", TEST_NOW))
        NAMES.clear()
        NAMES.update(ask.get("names", {}))
        opened = filters[ask["id"]]
        return {"answers": [opened.line(one) for one in ask["lines"]]}
    if do == "addresses":
        found = []
        for text in ask["texts"]:
            try:
                ip = ipdns.IPAddr(*text) if isinstance(text, list) else ipdns.IPAddr(text)
                found.append({"text": ip.ntoa, "family": {2: 4, 10: 6}.get(ip.family), "prefix": ip.plen})
            except Exception as error:
                found.append({"error": type(error).__name__})
        return {"found": found}
    if do == "search":
        return search(ask)
    return {"error": "unknown: %s" % do}


for text in sys.stdin:
    print(json.dumps(answer(json.loads(text))), flush=True)
