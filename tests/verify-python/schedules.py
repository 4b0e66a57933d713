"""Says who is on call, with the zones and the calendar of Python: not a line of garant.

    schedules.py on-call     reads questions from standard input, one JSON object a line, and prints one answer a line
    schedules.py calendar    reads iCalendar from standard input, and prints its events as JSON

The rule is the one of the documentation. A hand-over at a time of the clock takes place at the first instant at which calendar
and clock show that time, or something later. So it depends on one thing alone: the latest reading that the clock has shown so
far. It is found here by looking at the clock at each minute of the hours before, whatever the rules of the zone say.
"""

import json
import sys
import zoneinfo
from datetime import date, datetime, timedelta, timezone

import icalendar

# The zones of the package tzdata, not those of the machine: another release has other rules.
zoneinfo.reset_tzpath(to=[])

EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
# Longer than any clock has been set back.
LOOK_BACK_MINUTES = 4 * 60


def shown(zone, at):
    """What calendar and clock show, to the minute."""
    return at.astimezone(zone).replace(tzinfo=None, second=0, microsecond=0)


def latest(zone, at):
    """The latest reading so far."""
    now = shown(zone, at)
    before = at - timedelta(minutes=LOOK_BACK_MINUTES)
    if now - shown(zone, before) == timedelta(minutes=LOOK_BACK_MINUTES):
        return now
    return max(shown(zone, at - timedelta(minutes=minutes)) for minutes in range(LOOK_BACK_MINUTES + 1))


def is_inside(windows, reading):
    midnight = datetime.combine(reading.date(), datetime.min.time())
    for back in range(9):
        day = midnight - timedelta(days=back)
        for window in windows:
            start, end = (day + timedelta(minutes=window[key]) for key in ("from", "to"))
            if window["days"][day.weekday()] and start <= reading < end:
                return True
    return False


def on_call(question, micros, reading):
    covering = [made for made in question["overrides"] if made["start"] <= micros < made["end"]]
    if covering:
        return max(covering, key=lambda made: made["made_at"])["person"]
    for layer in reversed(question["layers"]):
        first = datetime.combine(date.fromisoformat(layer["from"]), datetime.min.time())
        first += timedelta(minutes=layer["hand_over"])
        if reading >= first and (not layer["only"] or is_inside(layer["only"], reading)):
            turn = (reading - first) // timedelta(days=layer["days"])
            return layer["people"][turn % len(layer["people"])]
    return None


def answer(question):
    zone = zoneinfo.ZoneInfo(question["zone"])
    people, quiet = [], []
    for micros in question["instants"]:
        reading = latest(zone, EPOCH + timedelta(microseconds=micros))
        people.append(on_call(question, micros, reading))
        quiet.append(is_inside(question["quiet"], reading))
    return {"on_call": people, "quiet": quiet}


def events(text):
    calendar = icalendar.Calendar.from_ical(text)
    faults = [fault for component in calendar.walk() for fault in component.errors]
    if faults:
        sys.exit(f"not iCalendar: {faults}")

    def seconds(value):
        return int(value.dt.timestamp())

    return [
        {
            "uid": str(event["UID"]),
            "start": seconds(event["DTSTART"]),
            "end": seconds(event["DTEND"]),
            "made_at": seconds(event["DTSTAMP"]),
            "summary": str(event["SUMMARY"]),
            "description": str(event.get("DESCRIPTION", "")),
        }
        for event in calendar.walk("VEVENT")
    ]


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["on-call"]:
            for line in sys.stdin:
                print(json.dumps(answer(json.loads(line))))
        case ["calendar"]:
            print(json.dumps(events(sys.stdin.buffer.read())))
        case _:
            sys.exit(__doc__)
