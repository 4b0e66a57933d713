package main

// Verdicts on availability and coverage, computed again by docs/evaluator.md. The document was all that this file was
// written from: it is the proof that the document suffices. It holds the state of the world at each of the instants at
// which anything changes, and adds up what lies between them.

import (
	"encoding/json"
	"fmt"
	"math"
	"math/bits"
	"sort"
	"strings"
)

const (
	evaluator     = 2
	skew          = int64(5e6)
	late          = int64(120e6)
	revisedMax    = int64(86400e6)
	minute        = int64(60e6)
	retoldWithin  = int64(2 * 86400e6)
	partsPerWhole = 1000000000
)

type interval struct{ Start, End int64 }

type policy struct {
	Revision string
	Probes   []struct {
		ID, Service, Agreement string
		Every                  int64
		Observers              []string
	}
	Findings []struct {
		Finding string
		Probes  []string
	}
	Maintenance []struct {
		Services []string
		Interval interval
	}
	Promises []struct {
		ID, Revision string
		Objectives   []json.RawMessage
	}
	from int64 // when it took effect
	body json.RawMessage
}

type clause struct {
	Objective, Service, Probe, Finding string
	AtLeast                            int64 `json:"at_least"`
	Over                               int64
}

// clauseKeys are the keys of each objective.
var clauseKeys = map[string][]string{
	"availability":  {"service", "at_least", "over"},
	"freshness":     {"probe", "at_most", "over"},
	"coverage":      {"service", "at_least", "over"},
	"configuration": {"probe", "observed", "over"},
	"absence":       {"finding", "observed", "over"},
}

// readClause reads an objective. One that is not known, or has a key more or less, is of another release.
func readClause(raw json.RawMessage) (clause, bool) {
	var c clause
	var members map[string]json.RawMessage
	if json.Unmarshal(raw, &members) != nil || json.Unmarshal(raw, &c) != nil {
		return c, false
	}
	keys := clauseKeys[c.Objective]
	known := keys != nil && len(members) == len(keys)+1
	for _, key := range keys {
		_, has := members[key]
		known = known && has
	}
	return c, known
}

type verdict struct {
	Promise, Revision, Outcome string
	Objective                  int
	Evaluator                  int
	TreeSize                   int64 `json:"tree_size"`
	At                         int64
	Window                     interval
	Figure                     *figure
	Reasons                    []reason
}

// A reason is read only as far as it tells the budget.
type reason struct {
	Reason string
	budget
}

type budget struct {
	UsedAtLeast int64 `json:"used_at_least"`
	UsedAtMost  int64 `json:"used_at_most"`
	Of          int64
}

type figure struct {
	Unit              string
	Low, High, Target int64
}

const (
	up = iota + 1
	down
	undecided
)

type step struct {
	from     int64
	standing int
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

func (l *line) add(from int64, standing int) {
	if n := len(l.steps); n > 0 && l.steps[n-1].from == from {
		l.steps = l.steps[:n-1]
	}
	if n := len(l.steps); n == 0 || l.steps[n-1].standing != standing {
		l.steps = append(l.steps, step{from, standing})
	}
}

func (l *line) change(after, by int64, standing int) {
	by = max(by, after)
	if len(l.steps) == 0 {
		l.add(by, standing)
		l.told = by
		return
	}
	until := max(by, l.told)
	differs := l.steps[len(l.steps)-1].standing != standing || after < l.told-revisedMax
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
		l.add(after, undecided)
	}
	l.add(until, standing)
	l.told = until
}

func max(a, b int64) int64 {
	if a > b {
		return a
	}
	return b
}

func min(a, b int64) int64 { return -max(-a, -b) }

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

func (s set) contains(t int64) bool {
	next := sort.Search(len(s), func(i int) bool { return s[i].Start > t })
	return next > 0 && t < s[next-1].End
}

type pair struct{ observer, probe string }

// A class is what makes a record count for a probe, beside its observer: its revision, and its every, 0 when it has none.
type class struct {
	observer, revision string
	every              int64
}

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
	next     int64
	policies []policy
	lines    map[pair]*line
	reports  map[class][]interval
	gaps     map[pair][]interval
	doubtful map[string][]interval // by vantage
	reach    int64                 // windows that start before rest on destroyed evidence
	untold   bool                  // no policy was told since
	lost     bool                  // the policy in effect is destroyed
}

func (w *world) apply(e envelope) error {
	if e.Version > version {
		return nil
	}
	var err error
	read := func(into interface{}) bool {
		if err == nil {
			err = json.Unmarshal(e.Body, into)
		}
		return err == nil
	}
	switch e.Type {
	case "policy.applied":
		p := policy{from: e.RecordedAt, body: e.Body}
		if !read(&p) {
			break
		}
		if w.untold {
			w.reach, w.untold = max(w.reach, e.RecordedAt), false
		}
		w.lost = false
		if n := len(w.policies); n > 0 {
			if sameJSON(w.policies[n-1].body, e.Body) {
				break
			}
			p.from = max(p.from, w.policies[n-1].from)
		}
		w.policies = append(w.policies, p)
	case "evidence.changed":
		var c struct {
			Probe, State string
			After, By    int64
		}
		standing := map[string]int{"up": up, "degraded": up, "down": down, "flapping": undecided}
		if read(&c) {
			key := pair{e.Observer, c.Probe}
			if w.lines[key] == nil {
				w.lines[key] = &line{}
			}
			now, known := standing[c.State]
			if !known {
				now = undecided
			}
			w.lines[key].change(min(c.After, e.RecordedAt+skew), min(c.By, e.RecordedAt+skew), now)
		}
	case "evidence.covered":
		var c struct {
			Interval interval
			Revision string
			Every    *int64
			Gaps     []struct {
				Probe    string
				Finding  *string
				Interval interval
			}
		}
		if read(&c) {
			i := interval{c.Interval.Start, min(c.Interval.End, e.RecordedAt+skew)}
			key := class{e.Observer, c.Revision, 0}
			if c.Every != nil {
				key.every = *c.Every
			}
			if i.Start < i.End {
				w.reports[key] = append(w.reports[key], i)
			}
			for _, g := range c.Gaps {
				if g.Finding != nil {
					continue // the probe was observed
				}
				gap := interval{max(g.Interval.Start, i.Start), min(g.Interval.End, i.End)}
				w.gaps[pair{e.Observer, g.Probe}] = append(w.gaps[pair{e.Observer, g.Probe}], gap)
			}
		}
	case "engine.clock_stepped":
		var c struct{ From, To int64 }
		if read(&c) {
			at := vantage(e.Observer)
			w.doubtful[at] = append(w.doubtful[at], interval{min(c.From, c.To), max(c.From, c.To)})
		}
	}
	return err
}

// A voter is an observer that was ever asked to ask a probe.
type voter struct {
	line             *line
	covered, without set
}

// counting gives the stretches of the records that count for a probe, by observer. Whoever was ever asked is in it.
func (w *world) counting(probe string) map[string][]interval {
	asked := make(map[class]bool)
	for _, p := range w.policies {
		for _, declared := range p.Probes {
			for _, observer := range declared.Observers {
				if declared.ID == probe {
					asked[class{observer, p.Revision, classOf(declared.Every)}] = true
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

// reach is up to where a verdict at `at` speaks that rests on these probes of the policy in effect.
func (w *world) reaches(concerned map[string]bool, at int64) int64 {
	reach := at
	for _, probe := range w.policies[len(w.policies)-1].Probes {
		if !concerned[probe.ID] {
			continue
		}
		byObserver := w.counting(probe.ID)
		for _, observer := range probe.Observers {
			until := at - probe.Every - late
			for _, stretch := range byObserver[observer] {
				until = max(until, stretch.End)
			}
			reach = min(reach, until)
		}
	}
	return reach
}

func (w *world) voters(probe string) []voter {
	var voters []voter
	for observer, stretches := range w.counting(probe) {
		key := pair{observer, probe}
		without := append(append([]interval{}, w.gaps[key]...), w.doubtful[vantage(observer)]...)
		if w.lines[key] != nil {
			voters = append(voters, voter{w.lines[key], join(stretches), join(without)})
		}
	}
	return voters
}

func agree(agreement string, voters []voter, t int64) int {
	var votes [undecided + 1]int
	n := 0
	for _, v := range voters {
		if standing := v.line.at(t); standing != 0 && v.covered.contains(t) && !v.without.contains(t) {
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
		return 0
	case isDown:
		return down
	case isUp:
		return up
	}
	return undecided
}

// A piece of time during which a service is one thing.
type piece struct {
	interval
	state        int
	blind, apart bool
}

// service says what a service was from the first policy until `at`, in pieces.
func (w *world) service(service string, at int64) []piece {
	edges := []int64{at}
	edge := func(intervals []interval) {
		for _, i := range intervals {
			edges = append(edges, i.Start, i.End)
		}
	}
	voters := make(map[string][]voter)
	for _, p := range w.policies {
		edges = append(edges, p.from)
		edge(p.windows(service))
		for _, probe := range p.Probes {
			if _, known := voters[probe.ID]; known || probe.Service != service {
				continue
			}
			voters[probe.ID] = w.voters(probe.ID)
			for _, v := range voters[probe.ID] {
				edge(v.covered)
				edge(v.without)
				for _, s := range v.line.steps {
					edges = append(edges, s.from)
				}
			}
		}
	}
	sort.Slice(edges, func(i, j int) bool { return edges[i] < edges[j] })
	var pieces []piece
	for i, start := range edges[:len(edges)-1] {
		p := w.policyAt(start)
		if edges[i+1] == start || p < 0 || start >= at {
			continue
		}
		next := piece{interval: interval{start, edges[i+1]}, state: up}
		badness := map[int]int{up: 0, 0: 1, undecided: 2, down: 3}
		any := false
		for _, probe := range w.policies[p].Probes {
			if probe.Service != service {
				continue
			}
			any = true
			state := agree(probe.Agreement, voters[probe.ID], start)
			next.blind = next.blind || state == 0
			if badness[state] > badness[next.state] {
				next.state = state
			}
		}
		if !any {
			next.state, next.blind = 0, true
		}
		pieces = append(pieces, next)
	}
	outages := make([]interval, len(w.policies))
	for i, p := range w.policies {
		outages[i] = outage(pieces, p.from)
	}
	for i := range pieces {
		pieces[i].apart = w.apart(service, pieces[i].Start, outages)
	}
	return pieces
}

// policyAt is the policy in effect: the last that took effect by then.
func (w *world) policyAt(t int64) int {
	return sort.Search(len(w.policies), func(i int) bool { return w.policies[i].from > t }) - 1
}

func (p *policy) windows(service string) []interval {
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

func (w *world) apart(service string, t int64, outages []interval) bool {
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

// allowed is what a target leaves to go wrong in `whole`.
func allowed(target, whole int64) int64 {
	high, low := bits.Mul64(uint64(partsPerWhole-target), uint64(whole))
	quotient, _ := bits.Div64(high, low, partsPerWhole)
	return int64(quotient)
}

// budgetOf is what a verdict says of its budget.
func budgetOf(v verdict) budget {
	for _, r := range v.Reasons {
		if r.Reason == "budget" {
			return r.budget
		}
	}
	return budget{-1, -1, -1}
}

// compute fills in window, outcome and figure of a verdict, from its promise, objective and at. It says which kind of
// objective it is, and how long its window should be.
func (w *world) compute(v verdict) (verdict, string, int64) {
	now := w.policies[len(w.policies)-1]
	for _, p := range now.Promises {
		if p.ID != v.Promise || v.Objective >= len(p.Objectives) {
			continue
		}
		o, known := readClause(p.Objectives[v.Objective])
		if !known {
			return verdict{Revision: p.Revision}, "?", 0
		}
		since := w.declaredSince(p.ID, p.Revision)
		out := verdict{Promise: p.ID, Revision: p.Revision, Objective: v.Objective, At: v.At, Outcome: "unproven"}
		concerned := map[string]bool{o.Probe: true}
		for _, probe := range now.Probes {
			concerned[probe.ID] = concerned[probe.ID] || o.Service != "" && probe.Service == o.Service
		}
		for _, detector := range now.Findings {
			for _, probe := range detector.Probes {
				concerned[probe] = concerned[probe] || o.Finding != "" && detector.Finding == o.Finding
			}
		}
		reach := w.reaches(concerned, v.At)
		out.Window.Start = max(since, reach-o.Over)
		out.Window.End = max(reach, out.Window.Start)
		if o.Objective != "availability" && o.Objective != "coverage" {
			return out, o.Objective, o.Over
		}
		var seen, isUp, isDown, whole, blind int64
		for _, piece := range w.service(o.Service, out.Window.End) {
			start, end := max(piece.Start, out.Window.Start), min(piece.End, out.Window.End)
			if start >= end {
				continue
			}
			length := end - start
			if piece.blind {
				blind += length
			}
			if piece.apart {
				continue
			}
			whole += length
			if piece.state != 0 {
				seen += length
			}
			if piece.state == up {
				isUp += length
			}
			if piece.state == down {
				isDown += length
			}
		}
		f := figure{Unit: "ppb", Target: o.AtLeast}
		elapsed := out.Window.End - out.Window.Start
		b := budget{isDown, whole - isUp, allowed(o.AtLeast, o.Over-(elapsed-whole))}
		if o.Objective == "coverage" {
			b = budget{blind, blind, allowed(o.AtLeast, o.Over)}
		}
		out.Reasons = []reason{{"budget", b}}
		if o.Objective == "availability" {
			if seen == 0 || whole == 0 {
				return out, o.Objective, o.Over
			}
			f.Low, _ = share(isUp, whole)
			_, f.High = share(whole-isDown, whole)
		} else {
			if elapsed == 0 {
				return out, o.Objective, o.Over
			}
			f.Low, _ = share(elapsed-blind, elapsed)
			f.High = f.Low
		}
		out.Figure = &f
		young := elapsed < o.Over
		if f.Low >= f.Target {
			out.Outcome = "kept"
		} else if young && b.UsedAtLeast > b.Of || !young && f.High < f.Target {
			out.Outcome = "broken"
		}
		return out, o.Objective, o.Over
	}
	return verdict{}, "", 0
}

func (w *world) declaredSince(id, revision string) int64 {
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

// checkFigures computes window, outcome and figure of every verdict on availability and coverage again.
func (a *audit) checkFigures() error {
	w := &world{
		lines: make(map[pair]*line), reports: make(map[class][]interval), gaps: make(map[pair][]interval),
		doubtful: make(map[string][]interval), reach: math.MinInt64,
	}
	checked, unreachable, others, passedOver, doubtful := 0, 0, 0, 0, 0
	notJudged := func(n int64) {
		passedOver++
		if a.inEffect[n] {
			doubtful++
		}
	}
	for n := int64(0); n < a.tree.N; n++ {
		e, disclosed := a.payload[n]
		if !disclosed || e.Type != "promise.verdict" {
			continue
		}
		var by struct{ Evaluator *int64 }
		if err := json.Unmarshal(e.Body, &by); e.Version > version || err == nil && by.Evaluator != nil && *by.Evaluator != evaluator {
			notJudged(n)
			continue
		}
		var v verdict
		if err := json.Unmarshal(e.Body, &v); err != nil {
			return fmt.Errorf("entry %d: %w", n, err)
		}
		if v.TreeSize > n || v.TreeSize < w.next {
			return fmt.Errorf("entry %d: from %d entries, where %d were read before", n, v.TreeSize, w.next)
		}
		for ; w.next < v.TreeSize; w.next++ {
			fact, disclosed := a.payload[w.next]
			if l := a.leaves[w.next]; !disclosed && !strings.HasPrefix(l.coarse, teamPrefix) {
				w.reach, w.untold = max(w.reach, (l.hour+1)*microsHour+retoldWithin), true
				w.lost = w.lost || l.coarse == "policy.applied"
			} else if err := w.apply(fact); err != nil {
				return fmt.Errorf("entry %d: %w", w.next, err)
			}
		}
		if len(w.policies) == 0 {
			if w.untold {
				unreachable++
				continue
			}
			return fmt.Errorf("entry %d: a verdict before any policy", n)
		}
		computed, objective, over := w.compute(v)
		// What a policy that can be read says, no destruction excuses.
		if objective == "" && !w.lost {
			return fmt.Errorf("entry %d: %s has no objective %d in the policy in effect", n, v.Promise, v.Objective)
		}
		if objective == "?" && computed.Revision == v.Revision {
			notJudged(n)
			continue
		}
		same := computed.Revision == v.Revision && computed.Window == v.Window
		if objective == "availability" || objective == "coverage" {
			same = same && computed.Outcome == v.Outcome && (computed.Figure == nil) == (v.Figure == nil)
			same = same && budgetOf(computed) == budgetOf(v)
			same = same && (v.Figure == nil || *v.Figure == *computed.Figure)
		}
		switch {
		case !same && (w.untold || v.At-over < w.reach) && (w.lost || computed.Revision == v.Revision):
			unreachable++
		case !same:
			return fmt.Errorf("entry %d says %s is %s %+v over %v, the entries make it %s %+v over %v",
				n, v.Promise, v.Outcome, v.Figure, v.Window, computed.Outcome, computed.Figure, computed.Window)
		case objective == "availability" || objective == "coverage":
			checked++
		default:
			others++
		}
	}
	fmt.Printf("figures: %d verdicts on availability and coverage computed again, %d out of reach, %d not judged; of %d others, the window\n",
		checked, unreachable, passedOver, others)
	if doubtful > 0 {
		a.doubts = append(a.doubts, fmt.Sprintf("%d verdicts in effect were not judged: a later release wrote them", doubtful))
	}
	return nil
}
