package main

// What observers said, folded by docs/evaluator.md: lines, covering, agreement, services, findings, maintenance, the window.
// The document was all that this file and objectives.go were written from: they are the proof that it suffices. The state of
// a thing is held at each of the instants at which anything changes.

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"math"
	"math/big"
	"math/bits"
	"sort"
	"strings"
)

const (
	evaluator     = 2
	skew          = int64(5e6)
	late          = int64(120e6)
	countedEvery  = int64(300e6)
	revisedMax    = int64(86400e6)
	minute        = int64(60e6)
	citedMax      = 16
	coverageMax   = 5
	partsPerWhole = 1000000000
)

type interval struct{ Start, End int64 }

// A words is a text in two languages.
type words struct{ Fr, En string }

// A policy is the body of policy.applied.
type policy struct {
	Revision string
	Services []struct {
		ID    name
		Title words
	}
	Probes []struct {
		ID        name
		Kind      string
		Service   name
		Every     int64
		Observers []name
		Agreement string
	}
	Findings []struct {
		Finding name
		Title   words
		Probes  []name
	}
	Maintenance []struct {
		Services []name
		Interval interval
		Text     words
	}
	Promises []promise

	from     int64 // when it took effect
	body     json.RawMessage
	sequence int64 // the newest entry that holds it
}

type promise struct {
	Revision   string
	ID         name
	Text       words
	Objectives []json.RawMessage
}

type clause struct {
	Objective               string
	To, Limit               *string
	Service, Probe, Finding *name
	AtLeast                 *int64 `key:"at_least"`
	AtMost                  *int64 `key:"at_most"`
	Within                  *int64
	Observed                *int64
	Over                    *int64
	service, probe, finding name
	atLeast, atMost, seen   int64
	within                  int64
	over                    int64
	toOffences              bool
}

// clauseKeys are the keys of each objective.
var clauseKeys = map[string][]string{
	"availability":  {"service", "at_least", "over"},
	"freshness":     {"probe", "at_most", "over"},
	"coverage":      {"service", "at_least", "over"},
	"configuration": {"probe", "observed", "over"},
	"absence":       {"finding", "observed", "over"},
	"reaction":      {"within", "observed", "over"},
	"restore":       {"limit", "probe", "at_most", "over"},
	"requests":      {"probe", "at_least", "over"},
}

// absentKeys are the keys of an objective that may be absent.
var absentKeys = map[string][]string{"reaction": {"service", "to"}}

// readClause reads an objective. One that is not known, or has a key more or less, is of another release.
func readClause(raw json.RawMessage) (clause, bool) {
	var c clause
	members, err := object(raw)
	if err != nil || decode(raw, &c) != nil {
		return c, false
	}
	keys := clauseKeys[c.Objective]
	count := len(members)
	for _, key := range absentKeys[c.Objective] {
		if _, has := members[key]; has {
			count--
		}
	}
	known := keys != nil && count == len(keys)+1
	if _, has := members["to"]; has {
		known = known && c.To != nil && (*c.To == "failures" || *c.To == "offences")
		c.toOffences = known && *c.To == "offences"
	}
	if c.Objective == "restore" {
		known = known && c.Limit != nil && (*c.Limit == "every" || *c.Limit == "within" || *c.Limit == "loses_at_most")
	}
	for _, key := range keys {
		known = known && members[key] != nil && string(members[key]) != "null"
	}
	for _, given := range []struct {
		from *name
		to   *name
	}{{c.Service, &c.service}, {c.Probe, &c.probe}, {c.Finding, &c.finding}} {
		if given.from != nil {
			*given.to = *given.from
		}
	}
	for _, given := range []struct{ from, to *int64 }{
		{c.AtLeast, &c.atLeast}, {c.AtMost, &c.atMost}, {c.Within, &c.within}, {c.Observed, &c.seen}, {c.Over, &c.over},
	} {
		if given.from != nil {
			*given.to = *given.from
		}
	}
	return c, known
}

const (
	up = iota + 1
	down
	undecided
)

type step struct {
	from     int64
	standing int
	sequence int64
}

// A line is what one observer says of one probe.
type line struct {
	steps []step
	told  int64
}

func (l *line) at(t int64) int {
	after := sort.Search(len(l.steps), func(i int) bool { return l.steps[i].from > t })
	if after == 0 {
		return 0
	}
	return l.steps[after-1].standing
}

func (l *line) add(from int64, standing int, sequence int64) {
	if n := len(l.steps); n > 0 && l.steps[n-1].from == from {
		l.steps = l.steps[:n-1]
	}
	if n := len(l.steps); n == 0 || l.steps[n-1].standing != standing {
		l.steps = append(l.steps, step{from, standing, sequence})
	}
}

func (l *line) change(after, by int64, standing int, sequence int64) {
	by = max(by, after)
	if len(l.steps) == 0 {
		l.add(by, standing, sequence)
		l.told = by
		return
	}
	until := max(by, l.told)
	differs := l.steps[len(l.steps)-1].standing != standing || after < minus(l.told, revisedMax)
	for i, s := range l.steps {
		end := l.told
		if i+1 < len(l.steps) {
			end = min(end, l.steps[i+1].from)
		}
		opposite := s.standing+standing == up+down && s.standing != standing
		differs = differs || opposite && max(s.from, after) < end
	}
	if differs {
		keep := sort.Search(len(l.steps), func(i int) bool { return l.steps[i].from >= after })
		l.steps = l.steps[:keep]
		l.add(after, undecided, sequence)
	}
	l.add(until, standing, sequence)
	l.told = until
}

func max(a, b int64) int64 {
	if a > b {
		return a
	}
	return b
}

func min(a, b int64) int64 {
	if a < b {
		return a
	}
	return b
}

// plus and minus stop at the ends of the range.
func plus(a, b int64) int64 {
	sum := a + b
	switch {
	case a > 0 && b > 0 && sum < 0:
		return math.MaxInt64
	case a < 0 && b < 0 && sum >= 0:
		return math.MinInt64
	}
	return sum
}

func minus(a, b int64) int64 {
	difference := a - b
	switch {
	case a >= 0 && b < 0 && difference < 0:
		return math.MaxInt64
	case a < 0 && b > 0 && difference >= 0:
		return math.MinInt64
	}
	return difference
}

// A set is sorted, and its intervals neither meet nor overlap.
type set []interval

func join(intervals []interval) set {
	sort.Slice(intervals, func(i, j int) bool { return intervals[i].Start < intervals[j].Start })
	var out set
	for _, i := range intervals {
		switch n := len(out); {
		case i.End <= i.Start:
		case n > 0 && i.Start <= out[n-1].End:
			out[n-1].End = max(out[n-1].End, i.End)
		default:
			out = append(out, i)
		}
	}
	return out
}

// add puts an interval into the set.
func (s set) add(i interval) set {
	if i.End <= i.Start {
		return s
	}
	first := sort.Search(len(s), func(k int) bool { return s[k].End >= i.Start })
	next := first
	for ; next < len(s) && s[next].Start <= i.End; next++ {
		i = interval{min(i.Start, s[next].Start), max(i.End, s[next].End)}
	}
	if first == next {
		s = append(s, interval{})
		copy(s[first+1:], s[first:])
	} else {
		s = append(s[:first+1], s[next:]...)
	}
	s[first] = i
	return s
}

func (s set) contains(t int64) bool {
	next := sort.Search(len(s), func(i int) bool { return s[i].Start > t })
	return next > 0 && t < s[next-1].End
}

func (s set) length() int64 {
	total := int64(0)
	for _, i := range s {
		total = plus(total, minus(i.End, i.Start))
	}
	return total
}

// cut is what of the set lies in the interval.
func (s set) cut(i interval) set {
	var out set
	for _, own := range s {
		if own = (interval{max(own.Start, i.Start), min(own.End, i.End)}); own.Start < own.End {
			out = append(out, own)
		}
	}
	return out
}

// less is what of the set is in none of these.
func (s set) less(other set) set {
	var out set
	for _, own := range s {
		for _, o := range other {
			if o.End <= own.Start || o.Start >= own.End {
				continue
			}
			if o.Start > own.Start {
				out = append(out, interval{own.Start, o.Start})
			}
			own.Start = min(o.End, own.End)
		}
		if own.Start < own.End {
			out = append(out, own)
		}
	}
	return out
}

// A look is what is said of a probe by an observer; of a finding there when it has one.
type look struct {
	observer       string
	probe, finding name
}

// A class is what makes a record count for a probe, beside its observer: its revision, and its every, 0 when it has none.
type class struct {
	observer, revision string
	every              int64
}

// A success is one of a job.
type success struct {
	at, recordedAt, sequence int64
	observer                 string
}

// A restore is an exact one.
type restore struct {
	at, took, lost, sequence int64
	observer                 string
}

// A count is one of requests.
type count struct {
	interval
	answered, failed *big.Int
	sequence         int64
	observer         string
}

// A message is one that a channel accepted: about a change of a probe, or a test. Or it is a ban.
type message struct {
	since, at, recordedAt, sequence int64
	observer                        string
}

// A record is the newest one of an observer.
type record struct{ sequence, end int64 }

func classOf(every int64) int64 {
	if every > minute {
		return every
	}
	return 0
}

// The vantage of an observer is its name up to the last dot.
func vantage(observer string) string {
	if dot := strings.LastIndexByte(observer, '.'); dot >= 0 {
		return observer[:dot]
	}
	return observer
}

// The world is what the entries read so far say.
type world struct {
	next      int64
	policies  []policy
	lines     map[look]*line
	reports   map[class]set
	gaps      map[look]set
	doubtful  map[string]set // by vantage
	successes map[name][]success
	messages  map[name][]message
	bans      map[name][]message
	restores  map[name][]restore
	counts    map[name][]count
	tests     []message
	newest    map[string]record
}

func newWorld() *world {
	return &world{
		lines: make(map[look]*line), reports: make(map[class]set), gaps: make(map[look]set),
		doubtful: make(map[string]set), successes: make(map[name][]success), messages: make(map[name][]message), bans: make(map[name][]message),
		restores: make(map[name][]restore), counts: make(map[name][]count), newest: make(map[string]record),
	}
}

// facts are the kinds that verdicts rest on.
var facts = map[string]bool{
	"policy.applied": true, "evidence.changed": true, "evidence.covered": true, "evidence.succeeded": true,
	"evidence.found": true, "evidence.reacted": true, "evidence.restored": true, "evidence.counted": true,
	"engine.clock_stepped": true,
}

func (w *world) apply(n int64, e *envelope) error {
	latest := plus(e.RecordedAt, skew)
	var err error
	read := func(into interface{}) bool {
		err = decode(e.Body, into)
		return err == nil
	}
	switch e.Type {
	case "policy.applied":
		p := policy{from: e.RecordedAt, body: e.Body, sequence: n}
		if !read(&p) {
			break
		}
		if last := len(w.policies) - 1; last >= 0 {
			if sameJSON(w.policies[last].body, e.Body) {
				w.policies[last].sequence = n
				break
			}
			p.from = max(p.from, w.policies[last].from)
		}
		w.policies = append(w.policies, p)
	case "evidence.changed":
		var c struct {
			Probe, Service name
			State          string
			After, By      int64
		}
		standing := map[string]int{"up": up, "degraded": up, "down": down, "flapping": undecided}
		if read(&c) {
			key := look{observer: string(e.Observer), probe: c.Probe}
			if w.lines[key] == nil {
				w.lines[key] = &line{}
			}
			now, known := standing[c.State]
			if !known {
				now = undecided
			}
			w.lines[key].change(min(c.After, latest), min(c.By, latest), now, n)
		}
	case "evidence.found":
		var c struct {
			Finding, Probe name
			Open           bool
			After, By      int64
		}
		if read(&c) {
			key := look{string(e.Observer), c.Probe, c.Finding}
			if w.lines[key] == nil {
				w.lines[key] = neverFound()
			}
			now := up
			if c.Open {
				now = down
			}
			w.lines[key].change(min(c.After, latest), min(c.By, latest), now, n)
		}
	case "evidence.succeeded":
		var c struct {
			Probe name
			At    int64
		}
		if read(&c) {
			w.successes[c.Probe] = append(w.successes[c.Probe], success{c.At, e.RecordedAt, n, string(e.Observer)})
		}
	case "evidence.reacted":
		var c struct {
			To             string
			Probe, Finding *name
			Since, At      int64
		}
		if !read(&c) || c.At > latest {
			break
		}
		m := message{c.Since, c.At, e.RecordedAt, n, string(e.Observer)}
		switch {
		case c.To == "test":
			w.tests = append(w.tests, m)
		case c.To == "failure" && c.Probe != nil && c.Finding == nil:
			w.messages[*c.Probe] = append(w.messages[*c.Probe], m)
		case c.To == "offence" && c.Probe != nil && c.Finding == nil:
			w.bans[*c.Probe] = append(w.bans[*c.Probe], m)
		}
	case "evidence.restored":
		var c struct {
			Probe          name
			At, Took, Lost int64
		}
		if read(&c) && c.At <= latest {
			w.restores[c.Probe] = append(w.restores[c.Probe], restore{c.At, c.Took, c.Lost, n, string(e.Observer)})
		}
	case "evidence.counted":
		var c struct {
			Probe    name
			Interval interval
			Minutes  []struct {
				Interval         interval
				Answered, Failed uint32
			} `absent:"yes"`
		}
		if !read(&c) {
			break
		}
		n := count{interval{c.Interval.Start, min(c.Interval.End, latest)}, new(big.Int), new(big.Int), n, string(e.Observer)}
		for _, m := range c.Minutes {
			n.answered.Add(n.answered, big.NewInt(int64(m.Answered)))
			n.failed.Add(n.failed, big.NewInt(int64(m.Failed)))
		}
		if n.Start < n.End {
			w.counts[c.Probe] = append(w.counts[c.Probe], n)
		}
	case "evidence.covered":
		var c struct {
			Interval interval
			Revision string
			Every    *int64
			Gaps     []struct {
				Probe    name
				Finding  *name
				Interval interval
			} `absent:"yes"`
		}
		if read(&c) {
			i := interval{c.Interval.Start, min(c.Interval.End, latest)}
			key := class{string(e.Observer), c.Revision, 0}
			if c.Every != nil {
				key.every = *c.Every
			}
			w.newest[string(e.Observer)] = record{n, i.End}
			w.reports[key] = w.reports[key].add(i)
			for _, g := range c.Gaps {
				gap := look{observer: string(e.Observer), probe: g.Probe}
				if g.Finding != nil {
					gap.finding = *g.Finding
				}
				w.gaps[gap] = w.gaps[gap].add(interval{max(g.Interval.Start, i.Start), min(g.Interval.End, i.End)})
			}
		}
	case "engine.clock_stepped":
		var c struct{ From, To int64 }
		if read(&c) {
			at := vantage(string(e.Observer))
			w.doubtful[at] = w.doubtful[at].add(interval{min(c.From, c.To), max(c.From, c.To)})
		}
	}
	return err
}

// neverFound is the line of a finding of which nobody said a word.
func neverFound() *line {
	return &line{steps: []step{{math.MinInt64, up, -1}}, told: math.MinInt64}
}

// A voter is an observer that was ever asked to ask a probe.
type voter struct {
	line    *line
	covered set
}

// counting gives the stretches of the records that count for a probe, by observer. Whoever was ever asked is in it.
func (w *world) counting(probe name) map[string][]interval {
	asked := make(map[class]bool)
	for _, p := range w.policies {
		for _, declared := range p.Probes {
			for _, observer := range declared.Observers {
				if declared.ID == probe {
					asked[class{string(observer), p.Revision, classOf(declared.Every)}] = true
				}
			}
		}
	}
	byObserver := make(map[string][]interval)
	for key := range asked {
		byObserver[key.observer] = append(byObserver[key.observer], w.reports[key]...)
	}
	return byObserver
}

// observers are those that were ever asked to ask the probe, in the order of their names.
func (w *world) observers(probe name) []string {
	var observers []string
	for observer := range w.counting(probe) {
		observers = append(observers, observer)
	}
	sort.Strings(observers)
	return observers
}

// reaches is up to where a verdict at `at` speaks that rests on these probes of the policy in effect: on what was observed in
// them, or on what was counted.
func (w *world) reaches(concerned map[name]bool, counted bool, at int64) int64 {
	reach := at
	for _, probe := range w.policies[len(w.policies)-1].Probes {
		if !concerned[probe.ID] {
			continue
		}
		byObserver, every := w.counting(probe.ID), probe.Every
		if counted {
			byObserver, every = make(map[string][]interval), max(every, countedEvery)
			for _, c := range w.counts[probe.ID] {
				byObserver[c.observer] = append(byObserver[c.observer], c.interval)
			}
		}
		for _, observer := range probe.Observers {
			until := minus(minus(at, every), late)
			for _, stretch := range byObserver[string(observer)] {
				until = max(until, stretch.End)
			}
			reach = min(reach, until)
		}
	}
	return reach
}

// covers is when an observer covers a probe, by its stretches that count.
func (w *world) covers(observer string, probe name, stretches []interval) set {
	without := append(append([]interval{}, w.gaps[look{observer: observer, probe: probe}]...), w.doubtful[vantage(observer)]...)
	return join(stretches).less(join(without))
}

// voters are those who may vote on a probe, or on a finding in it.
func (w *world) voters(probe, finding name) []voter {
	var voters []voter
	for observer, stretches := range w.counting(probe) {
		line := w.lines[look{observer, probe, finding}]
		if line == nil && finding != "" {
			line = neverFound()
		}
		if line == nil {
			continue
		}
		covered := w.covers(observer, probe, stretches)
		if finding != "" {
			covered = covered.less(w.gaps[look{observer, probe, finding}])
		}
		voters = append(voters, voter{line: line, covered: covered})
	}
	return voters
}

// agree is what the voters make of a probe at an instant, and how many they are.
func agree(agreement string, voters []voter, t int64) (int, int) {
	var votes [undecided + 1]int
	n := 0
	for _, v := range voters {
		if standing := v.line.at(t); standing != 0 && v.covered.contains(t) {
			votes[standing]++
			n++
		}
	}
	isDown, isUp := false, false // by a word that is not known
	switch agreement {
	case "majority":
		isDown, isUp = 2*votes[down] > n, 2*votes[up] > n
	case "any":
		isDown, isUp = votes[down] > 0, votes[up] == n
	case "all":
		isDown, isUp = votes[down] == n, votes[up] > 0
	}
	switch {
	case n == 0:
		return 0, n
	case isDown:
		return down, n
	case isUp:
		return up, n
	}
	return undecided, n
}

// A piece of time during which a subject is one thing.
type piece struct {
	interval
	state              int
	blind, lone, apart bool
}

// A subject is what an objective is about: a service, a probe, a finding; or all services, when it is none of these.
type subject struct{ service, probe, finding name }

func (c *clause) subject() subject { return subject{c.service, c.probe, c.finding} }

// A part is a probe that makes up a subject under a policy.
type part struct {
	probe     name
	agreement string
}

func (s subject) parts(p *policy) []part {
	var parts []part
	for _, probe := range p.Probes {
		if s == (subject{}) || s.service != "" && probe.Service == s.service || s.probe != "" && probe.ID == s.probe {
			parts = append(parts, part{probe.ID, probe.Agreement})
		}
	}
	for _, detector := range p.Findings {
		if s.finding != "" && detector.Finding == s.finding {
			for _, probe := range detector.Probes {
				parts = append(parts, part{probe, "any"})
			}
		}
	}
	return parts
}

// pieces says what a subject was from the first policy until `at`.
func (w *world) pieces(s subject, at int64) []piece {
	edges := []int64{at}
	edge := func(intervals []interval) {
		for _, i := range intervals {
			edges = append(edges, i.Start, i.End)
		}
	}
	voters := make(map[name][]voter)
	for i := range w.policies {
		p := &w.policies[i]
		edges = append(edges, p.from)
		edge(p.windows(s.service))
		for _, part := range s.parts(p) {
			if _, known := voters[part.probe]; known {
				continue
			}
			voters[part.probe] = w.voters(part.probe, s.finding)
			for _, v := range voters[part.probe] {
				edge(v.covered)
				for _, s := range v.line.steps {
					edges = append(edges, s.from)
				}
			}
		}
	}
	sort.Slice(edges, func(i, j int) bool { return edges[i] < edges[j] })
	parts := make([][]part, len(w.policies))
	for i := range w.policies {
		parts[i] = s.parts(&w.policies[i])
	}
	var pieces []piece
	for i, start := range edges[:len(edges)-1] {
		p := w.policyAt(start)
		if edges[i+1] == start || p < 0 || start >= at {
			continue
		}
		next := piece{interval: interval{start, edges[i+1]}, state: up}
		badness := map[int]int{up: 0, 0: 1, undecided: 2, down: 3}
		for _, part := range parts[p] {
			state, n := agree(part.agreement, voters[part.probe], start)
			next.blind = next.blind || state == 0
			next.lone = next.lone || n == 1
			if badness[state] > badness[next.state] {
				next.state = state
			}
		}
		if len(parts[p]) == 0 {
			next.state, next.blind = 0, true
		}
		pieces = append(pieces, next)
	}
	if s.service == "" {
		return pieces
	}
	outages := make([]interval, len(w.policies))
	for i, p := range w.policies {
		outages[i] = outage(pieces, p.from)
	}
	for i := range pieces {
		pieces[i].apart = w.apart(s.service, pieces[i].Start, outages)
	}
	return pieces
}

// policyAt is the policy in effect: the last that took effect by then.
func (w *world) policyAt(t int64) int {
	return sort.Search(len(w.policies), func(i int) bool { return w.policies[i].from > t }) - 1
}

func (p *policy) windows(service name) []interval {
	var windows []interval
	for _, m := range p.Maintenance {
		for _, s := range m.Services {
			if s == service {
				windows = append(windows, m.Interval)
			}
		}
	}
	return windows
}

// outage is the one that was going on at t, from there on; empty without one.
func outage(pieces []piece, t int64) interval {
	at := sort.Search(len(pieces), func(i int) bool { return pieces[i].Start > t }) - 1
	none := interval{}
	if at < 0 || pieces[at].state == up {
		return none
	}
	last := at
	for last >= 0 && pieces[last].state == 0 {
		last--
	}
	if last < 0 || pieces[last].state == up {
		return none
	}
	out := interval{pieces[last].Start, math.MaxInt64}
	for _, later := range pieces[at:] {
		if later.state == up {
			out.End = later.Start
			break
		}
	}
	return out
}

func (w *world) apart(service name, t int64, outages []interval) bool {
	inside := func(i interval) bool { return i.Start <= t && t < i.End }
	for i := range w.policies {
		announced := false
		for _, window := range w.policies[i].windows(service) {
			announced = announced || inside(window) && window.Start > w.policies[i].from
		}
		for j := i + 1; announced && j <= w.policyAt(t); j++ {
			announced = false
			for _, window := range w.policies[j].windows(service) {
				announced = announced || inside(window)
			}
		}
		if announced && !inside(outages[i]) {
			return true
		}
	}
	return false
}

// share is part of whole in parts per billion, rounded down and up.
func share(part, whole int64) (int64, int64) {
	high, low := bits.Mul64(uint64(part), partsPerWhole)
	quotient, rest := bits.Div64(high, low, uint64(whole))
	if rest > 0 {
		return int64(quotient), int64(quotient) + 1
	}
	return int64(quotient), int64(quotient)
}

// allowed is what a target leaves to go wrong in `whole`, rounded down.
func allowed(target, whole int64) int64 {
	of := new(big.Int).Mul(big.NewInt(partsPerWhole-target), big.NewInt(whole))
	if of.Div(of, big.NewInt(partsPerWhole)).IsInt64() {
		return of.Int64()
	}
	return math.MaxInt64
}

// declaredSince is when the policy took effect that first held this revision, if every one since then held it too.
func (w *world) declaredSince(id name, revision string) int64 {
	var since int64
	for i := len(w.policies) - 1; i >= 0; i-- {
		found := false
		for _, p := range w.policies[i].Promises {
			found = found || p.ID == id && p.Revision == revision
		}
		if !found {
			break
		}
		since = w.policies[i].from
	}
	return since
}

// checkRevision demands that a revision comes first and is the digest of the rest.
func checkRevision(raw json.RawMessage, claimed string) error {
	first := `{"revision":"` + claimed + `",`
	if !strings.HasPrefix(string(raw), first) {
		return errors.New("its revision does not come first")
	}
	sum := sha256.Sum256([]byte("{" + string(raw[len(first):])))
	if hex.EncodeToString(sum[:])[:16] != claimed {
		return errors.New("its revision is not the digest of the rest")
	}
	return nil
}
