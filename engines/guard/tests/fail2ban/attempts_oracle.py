"""Counts failures and computes ban times with the installed fail2ban: one JSON case a line in, one JSON answer a line out.

Called by the tests of `detect`. A case is {"attempts": …}, {"bantime": …} or {"bans": …}; see `oracle.rs` for the first two, and the tests of the enforcer.
"""

import json
import logging
import os
import random
import sys
import tempfile

sys.path.insert(0, "/usr/lib/python3/dist-packages")

from fail2ban.server.database import Fail2BanDb
from fail2ban.server.failmanager import FailManager, FailManagerEmpty
from fail2ban.server.banmanager import BanManager
from fail2ban.server.jail import Jail
from fail2ban.server.observer import ObserverThread
from fail2ban.server.mytime import MyTime
from fail2ban.server.ticket import BanTicket, FailTicket

logging.disable(logging.CRITICAL)


class History:
    """A database that knows one row of earlier bans."""

    def __init__(self):
        self.row = None

    def getBan(self, ip, jail=None, **_):
        return [self.row]


class Filter:
    """The part of a filter that the observer asks."""

    def __init__(self, limits):
        self.failManager = FailManager()
        self.failManager.setMaxRetry(limits["max_retry"])
        self.failManager.setMaxTime(limits["find_time"])
        self.banned = None

    def performBan(self, ip):
        try:
            self.banned = self.failManager.toBan(ip)
        except FailManagerEmpty:
            pass


class JailOfOne:
    """The part of a jail that the observer asks."""

    name = "drawn"

    def __init__(self, limits):
        self.filter = Filter(limits)
        self.database = History()

    def isAlive(self):
        return True

    def getBanTimeExtra(self, _):
        return True


def shown(ticket):
    return [str(ticket.getID()), round(ticket.getTime() * 1e6), ticket.getAttempt(), int(ticket.getRetry())]


def attempts(case):
    jail = JailOfOne(case["limits"])
    manager = jail.filter.failManager
    observer = ObserverThread()
    answers = []
    for step in case["steps"]:
        jail.filter.banned = None
        if step["op"] == "clean":
            manager.cleanup(step["now"] / 1e6)
        else:
            data = {"failures": step["attempts"]} if step["attempts"] else {}
            ticket = FailTicket(step["id"], step["time"] / 1e6, data=data)
            if manager.addFailure(ticket) >= manager.getMaxRetry():
                jail.filter.performBan(ticket.getID())
            if step["bans"] and jail.filter.banned is None:
                jail.database.row = (step["bans"], int(round(step["last_ban"] / 1e6)), 600)
                observer.failureFound(jail, ticket)
        banned = jail.filter.banned
        answers.append([shown(banned) if banned else None, manager.size()])
    return answers


def bantime(case):
    jail = Jail("drawn", backend=None, db=History())
    for option, value in case["options"].items():
        jail.setBanTimeExtra(option, value)
    random.random = lambda: case["draw"]
    answers = []
    for count in case["counts"]:
        try:
            answer = float(jail.getBanTimeExtra("evformula")(ObserverThread.BanTimeIncr(case["time"], count)))
            answers.append(answer.hex() if abs(answer) < 1e300 else "too large")
        except Exception:
            answers.append("error")
    return answers


class LiveJail(Jail):
    """A jail that counts as running, though none of its threads does; its bans are its actions."""

    actions = None

    def isAlive(self):
        return True


def bans(case):
    """How long each ban lasts, and which one of its address it is, by the database of bans of several jails."""
    answers = []
    with tempfile.TemporaryDirectory() as folder:
        database = Fail2BanDb(os.path.join(folder, "fail2ban.sqlite3"))
        observer, jails, managers = ObserverThread(), {}, {}
        observer.add_timer = lambda *_: None
        for name, jail in case["jails"].items():
            jails[name], managers[name] = LiveJail(name, backend=None, db=database), BanManager()
            managers[name].setBanTime(jail["time"])
            jails[name].actions = managers[name]
            for option, value in jail["options"].items():
                jails[name].setBanTimeExtra(option, value)
            database.addJail(jails[name])
        for step in case["steps"]:
            now, jail, manager = step["now"], jails[step["jail"]], managers[step["jail"]]
            MyTime.setTime(now)
            manager.unBanList(now)
            ticket = BanTicket(step["address"], time=now)
            assert manager.addBanTicket(ticket)
            plain = case["jails"][step["jail"]]["time"]
            observer.banFound(ticket, jail, plain)
            answers.append([int(ticket.getBanTime(plain)), ticket.getBanCount()])
    return answers


for line in sys.stdin:
    case = json.loads(line)
    if "attempts" in case:
        answer = attempts(case["attempts"])
    elif "bantime" in case:
        answer = bantime(case["bantime"])
    else:
        answer = bans(case["bans"])
    print(json.dumps(answer))
