"""Counts failures and computes ban times with the installed fail2ban: one JSON case a line in, one JSON answer a line out.

Called by the tests of `detect`. A case is {"attempts": …} or {"bantime": …}; see `oracle.rs` for both.
"""

import json
import logging
import random
import sys

sys.path.insert(0, "/usr/lib/python3/dist-packages")

from fail2ban.server.failmanager import FailManager, FailManagerEmpty
from fail2ban.server.jail import Jail
from fail2ban.server.observer import ObserverThread
from fail2ban.server.ticket import FailTicket

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


for line in sys.stdin:
    case = json.loads(line)
    answer = attempts(case["attempts"]) if "attempts" in case else bantime(case["bantime"])
    print(json.dumps(answer))
