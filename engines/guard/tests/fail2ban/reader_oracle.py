"""What the installed fail2ban reads of a configuration, one JSON answer for each JSON question on standard input.

{"filter": "sshd[mode=aggressive]", "dir": …, "jail": …, "backend": …, "options": {…}}   the filter's settings
{"jails": true, "dir": …}                                                               every jail
{"duration": "1h 30m"}                                                                  seconds
{"extract": "name[option=value]"}, {"split": "one[a=b] two"}                            names and options
"""

import json
import logging
import sys

from fail2ban.client.filterreader import FilterReader
from fail2ban.client.jailreader import JailReader
from fail2ban.client.jailsreader import JailsReader
from fail2ban.helpers import extractOptions, splitWithOptions
from fail2ban.server.mytime import MyTime

logging.getLogger("fail2ban").addHandler(logging.NullHandler())
logging.getLogger("fail2ban").propagate = False

SETTINGS = ("usedns", "prefregex", "maxlines", "datepattern")


def fold(stream):
    """The commands of one jail, in order, as the state that the server has after them."""
    found = {"failregex": [], "ignoreregex": [], "journalmatch": [], "logpath": [], "options": {}, "actions": []}
    for command in stream:
        if command[0] == "config-error":
            return {"error": command[1]}
        if command[0] == "add":
            found["backend"] = command[2]
        elif command[0] in ("set", "multi-set") and command[2] in ("addfailregex", "addignoreregex"):
            values = command[3] if command[0] == "multi-set" else command[3:]
            found[command[2][3:]].extend(values)
        elif command[0] == "multi-set" and command[2] == "action":
            found["actions"][-1]["options"].update({k: str(v) for k, v in command[4]})
        elif command[0] == "set" and command[2] == "action":
            found["actions"][-1]["options"][command[4]] = str(command[5])
        elif command[0] == "set" and command[2] == "addaction":
            action = {"name": command[3], "options": {}}
            if len(command) > 4:
                action["python"] = command[4]
                action["options"] = json.loads(command[5])
            found["actions"].append(action)
        elif command[0] == "set" and command[2] == "addjournalmatch":
            found["journalmatch"].append(command[3:])
        elif command[0] == "set" and command[2] == "addlogpath":
            found["logpath"].append(command[3:])
        elif command[0] == "set" and command[2] == "addignoreip":
            found["ignoreip"] = command[3:]
        elif command[0] == "set" and command[2] in SETTINGS:
            found[command[2]] = str(command[3])
        elif command[0] == "set":
            found["options"][command[2]] = None if command[3] is None else str(command[3])
    return found


def read_filter(question):
    name, options = extractOptions(question["filter"])
    reader = FilterReader(name, question["jail"], options, share_config={}, basedir=question["dir"])
    if not reader.read():
        return {"error": "no such filter"}
    reader.applyAutoOptions(question["backend"])
    reader.getOptions(question["options"])
    stream = reader.convert()
    FilterReader._fillStream(stream, question["options"], question["jail"])
    return fold(stream)


def read_jails(question):
    # Patterns of log files stay patterns.
    JailReader._glob = staticmethod(lambda path: [path])
    share = {}
    reader = JailsReader(share_config=share, basedir=question["dir"])
    if not reader.read():
        return {"error": "no jail.conf"}
    jails = []
    for name in list(reader.sections()):
        if name == "INCLUDES":
            continue
        # Each by itself, so that one that is refused does not hide the others.
        before = len(reader.jails)
        try:
            reader.getOptions(name, ignoreWrong=True)
            if len(reader.jails) == before:
                found = {"disabled": True}
            else:
                found = fold(reader.jails[-1].convert(allow_no_files=True))
        except Exception as error:
            found = {"error": "%s: %s" % (type(error).__name__, error)}
        found["name"] = name
        jails.append(found)
    return {"jails": jails}


def answer(question):
    try:
        if "filter" in question:
            return read_filter(question)
        if "jails" in question:
            return read_jails(question)
        if "extract" in question:
            name, options = extractOptions(question["extract"])
            return {"name": name, "options": options}
        if "split" in question:
            return {"split": splitWithOptions(question["split"])}
        return {"seconds": str(int(MyTime.str2seconds(question["duration"])))}
    except Exception as error:
        return {"error": "%s: %s" % (type(error).__name__, error)}


for line in sys.stdin:
    print(json.dumps(answer(json.loads(line))), flush=True)
