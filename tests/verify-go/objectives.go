package main

// The eight objectives, what a verdict names as its reasons and its evidence, and what must hold of the verdicts of a log:
// docs/evaluator.md from "The eight objectives" on.

import (
	"encoding/json"
	"fmt"
	"math"
	"math/big"
	"reflect"
	"sort"
	"strings"
)

const (
	behindMax    = 65536
	oldMax       = int64(7200e6)
	lapse        = int64(25 * 3600e6)
	silenceMax   = int64(300e6)
	lookEvery    = int64(600e6)
	retoldWithin = int64(2 * 86400e6)
)

// A verdict is the body of promise.verdict.
type verdict struct {
	Promise   name
	Revision  string
	Objective int64
	Evaluator int64
	TreeSize  int64 `key:"tree_size"`
	At        int64
	Window    interval
	Outcome   string
	Figure    *figure
	Reasons   []reason
	Evidence  []int64
}

type figure struct {
	Unit              string
	Low, High, Target int64
}

// A reason has some of these keys.
type reason struct {
	Reason          string
	Elapsed, Length *int64
	UsedAtLeast     *int64 `key:"used_at_least"`
	UsedAtMost      *int64 `key:"used_at_most"`
	Of, Outages     *int64
}

func length(of string, length int64) reason { return reason{Reason: of, Length: &length} }

type budget struct{ atLeast, atMost, of int64 }

func (b budget) reason() reason {
	return reason{Reason: "budget", UsedAtLeast: &b.atLeast, UsedAtMost: &b.atMost, Of: &b.of}
}

func (b budget) atRisk() bool { return b.atLeast > b.of-b.atLeast }

// A case is one objective, looked at over one window.
type aCase struct {
	w      *world
	clause clause
	window interval
	at     int64
	out    *verdict
}

// compute fills in a verdict from its promise, objective and at. `declared` is false when the policy in effect does not have
// that objective, `known` when it is one that is not known.
func (w *world) compute(v verdict) (out verdict, over int64, declared, known bool) {
	if len(w.policies) == 0 {
		return verdict{}, 0, false, false
	}
	now := &w.policies[len(w.policies)-1]
	for _, p := range now.Promises {
		if p.ID != v.Promise || v.Objective >= int64(len(p.Objectives)) {
			continue
		}
		o, known := readClause(p.Objectives[v.Objective])
		if !known {
			return verdict{Revision: p.Revision}, 0, true, false
		}
		concerned := make(map[name]bool)
		for _, part := range o.subject().parts(now) {
			concerned[part.probe] = true
		}
		out := verdict{
			Promise: p.ID, Revision: p.Revision, Objective: v.Objective, Evaluator: evaluator, TreeSize: v.TreeSize, At: v.At,
			Outcome: "unproven", Reasons: []reason{}, Evidence: []int64{},
		}
		reach := w.reaches(concerned, o.Objective == "requests", v.At)
		out.Window.Start = max(w.declaredSince(p.ID, p.Revision), minus(reach, o.over))
		out.Window.End = max(reach, out.Window.Start)
		c := &aCase{w, o, out.Window, v.At, &out}
		if elapsed := c.elapsed(); elapsed < o.over {
			c.because(reason{Reason: "window_filling", Elapsed: &elapsed, Length: &o.over})
		}
		c.cite(now.sequence)
		c.citeCoverage()
		switch o.Objective {
		case "availability":
			c.availability()
		case "coverage":
			c.coverage()
		case "freshness":
			c.gaps(c.w.successes[o.probe])
		case "restore":
			c.restores()
		case "requests":
			c.requests()
		case "reaction":
			if o.toOffences {
				c.offences()
			} else {
				c.reaction()
			}
		default:
			c.never()
		}
		sort.Slice(out.Evidence, func(i, j int) bool { return out.Evidence[i] < out.Evidence[j] })
		return out, o.over, true, true
	}
	return verdict{}, 0, false, false
}

func (c *aCase) elapsed() int64 { return minus(c.window.End, c.window.Start) }

func (c *aCase) because(r reason) { c.out.Reasons = append(c.out.Reasons, r) }

func (c *aCase) becauseLength(of string, lasted int64) {
	if lasted > 0 {
		c.because(length(of, lasted))
	}
}

func (c *aCase) nothing(unobserved int64) {
	c.because(reason{Reason: "no_evidence"})
	c.becauseLength("unobserved", unobserved)
}

// The times are the sets of time of a subject, cut to the window.
type times struct {
	up, down, undecided, blind, lone, apart set
}

func (c *aCase) times(setApart bool) times { return c.timesOf(c.clause.subject(), setApart) }

func (c *aCase) timesOf(s subject, setApart bool) times {
	var t struct{ up, down, undecided, blind, lone, apart []interval }
	for _, piece := range c.w.pieces(s, c.window.End) {
		i := interval{max(piece.Start, c.window.Start), min(piece.End, c.window.End)}
		if i.Start >= i.End {
			continue
		}
		if piece.blind {
			t.blind = append(t.blind, i)
		}
		if setApart && piece.apart {
			t.apart = append(t.apart, i)
			continue
		}
		if piece.lone {
			t.lone = append(t.lone, i)
		}
		switch piece.state {
		case up:
			t.up = append(t.up, i)
		case down:
			t.down = append(t.down, i)
		case undecided:
			t.undecided = append(t.undecided, i)
		}
	}
	return times{join(t.up), join(t.down), join(t.undecided), join(t.blind), join(t.lone), join(t.apart)}
}

func (c *aCase) becauseDown(down set) {
	if outages := int64(len(down)); outages > 0 {
		lasted := down.length()
		c.because(reason{Reason: "down", Length: &lasted, Outages: &outages})
	}
}

// moreIsBetter gives figure and outcome of a share of which more is better.
func (c *aCase) moreIsBetter(low, high int64, b budget) {
	target := c.clause.atLeast
	c.out.Figure = &figure{"ppb", low, high, target}
	isYoung := c.elapsed() < c.clause.over
	switch {
	case low >= target:
		c.out.Outcome = "kept"
	case isYoung && b.atLeast > b.of, !isYoung && high < target:
		c.out.Outcome = "broken"
	}
}

func (c *aCase) becauseAtRisk(b budget) {
	if c.out.Outcome == "kept" && b.atRisk() {
		c.because(reason{Reason: "at_risk"})
	}
}

func (c *aCase) availability() {
	t := c.times(true)
	apart := t.apart.length()
	whole, observed := c.elapsed()-apart, t.up.length()+t.down.length()+t.undecided.length()
	b := budget{t.down.length(), whole - t.up.length(), allowed(c.clause.atLeast, minus(c.clause.over, apart))}
	c.because(b.reason())
	if observed == 0 || whole == 0 {
		c.nothing(whole - observed)
		return
	}
	low, _ := share(t.up.length(), whole)
	_, high := share(whole-t.down.length(), whole)
	c.moreIsBetter(low, high, b)
	c.becauseDown(t.down)
	c.becauseLength("unobserved", whole-observed)
	c.becauseLength("maintenance", apart)
	if 2*t.lone.length() > observed {
		c.because(reason{Reason: "lone_observer"})
	}
	c.becauseAtRisk(b)
	c.citeOutages(t.down, citedMax)
}

func (c *aCase) coverage() {
	blind, whole := c.times(false).blind.length(), c.elapsed()
	b := budget{blind, blind, allowed(c.clause.atLeast, c.clause.over)}
	c.because(b.reason())
	if whole == 0 {
		c.nothing(0)
		return
	}
	low, _ := share(whole-blind, whole)
	c.moreIsBetter(low, low, b)
	if blind == whole {
		c.because(reason{Reason: "no_evidence"})
	}
	c.becauseLength("unobserved", blind)
	c.becauseAtRisk(b)
}

// never is what is broken by one violation: configuration, and absence.
func (c *aCase) never() {
	t := c.times(false)
	judged := t.up.length() + t.down.length() + t.undecided.length()
	missed, outages := c.elapsed()-judged, citedMax
	if c.clause.Objective == "absence" {
		missed, outages = t.blind.length(), math.MaxInt32
	}
	if judged == 0 {
		c.nothing(missed)
		return
	}
	low, _ := share(t.up.length(), judged)
	_, high := share(judged-t.down.length(), judged)
	if len(t.down) > 0 {
		high = min(high, partsPerWhole-1)
	}
	c.out.Figure = &figure{"ppb", low, high, partsPerWhole}
	enough, _ := share(c.elapsed()-missed, c.elapsed())
	switch {
	case len(t.down) > 0:
		c.out.Outcome = "broken"
	case len(t.undecided) == 0 && enough >= c.clause.seen:
		c.out.Outcome = "kept"
	}
	c.becauseDown(t.down)
	c.becauseLength("unobserved", missed)
	if 2*t.lone.length() > judged {
		c.because(reason{Reason: "lone_observer"})
	}
	c.citeOutages(t.down, outages)
}

// gaps is freshness, and the first limit of restores: how far apart two of these are.
func (c *aCase) gaps(all []success) {
	probe := c.clause.probe
	var looked, doubtful []interval
	isAsked := make(map[string]bool)
	for observer, stretches := range c.w.counting(probe) {
		isAsked[observer] = true
		looked = append(looked, c.w.covers(observer, probe, stretches)...)
		doubtful = append(doubtful, c.w.doubtful[vantage(observer)]...)
	}
	l, q := join(looked).cut(c.window), join(doubtful)
	var successes []success
	for _, s := range all {
		if isAsked[s.observer] && c.window.Start <= s.at && s.at < c.window.End && s.at <= plus(s.recordedAt, skew) {
			successes = append(successes, s)
		}
	}
	sort.Slice(successes, func(i, j int) bool {
		one, two := successes[i], successes[j]
		return one.at < two.at || one.at == two.at && one.sequence < two.sequence
	})
	unobserved := c.elapsed() - l.length()
	if c.elapsed() == 0 || len(successes) == 0 && len(l) == 0 {
		c.nothing(unobserved)
		return
	}
	f := figure{Unit: "micros", Low: 0, High: -1, Target: c.clause.atMost}
	worst := 0
	for i := 0; i <= len(successes); i++ {
		gap := c.window
		if i > 0 {
			gap.Start = successes[i-1].at
		}
		if i < len(successes) {
			gap.End = successes[i].at
		}
		for _, seen := range l.cut(gap) {
			f.Low = max(f.Low, seen.End-seen.Start)
		}
		high := gap.End - gap.Start
		for _, d := range q {
			if d.Start <= gap.End && d.End >= gap.Start {
				high = plus(high, minus(d.End, d.Start))
			}
		}
		if high >= f.High {
			f.High, worst = high, i
		}
	}
	c.out.Figure = &f
	switch {
	case f.Low > f.Target:
		c.out.Outcome = "broken"
	case f.High <= f.Target && len(successes) > 0:
		c.out.Outcome = "kept"
	}
	if len(successes) == 0 && c.out.Outcome != "broken" {
		c.because(reason{Reason: "no_evidence"})
	}
	c.becauseLength("unobserved", unobserved)
	if worst > 0 {
		c.cite(successes[worst-1].sequence)
	}
	if worst < len(successes) {
		c.cite(successes[worst].sequence)
	}
}

// restores is how far apart the exact restores of the probe are, how long each took, or how much each would have lost.
func (c *aCase) restores() {
	var ends []success
	for _, r := range c.w.restores[c.clause.probe] {
		ends = append(ends, success{r.at, r.at, r.sequence, r.observer})
	}
	if *c.clause.Limit == "every" {
		c.gaps(ends)
		return
	}
	type length struct {
		restore
		low, high int64
	}
	var lengths []length
	asked := c.w.counting(c.clause.probe)
	for _, r := range c.w.restores[c.clause.probe] {
		if _, isAsked := asked[r.observer]; !isAsked || r.at < c.window.Start || r.at >= c.window.End {
			continue
		}
		from, until := minus(r.at, r.took), r.at
		if *c.clause.Limit == "loses_at_most" {
			from, until = minus(from, r.lost), from
		}
		until = max(until, from)
		doubt := int64(0)
		for _, d := range c.w.doubtful[vantage(r.observer)] {
			if d.Start <= max(until, c.window.Start) && d.End >= max(from, c.window.Start) {
				doubt = plus(doubt, minus(d.End, d.Start))
			}
		}
		whole := minus(until, from)
		lengths = append(lengths, length{r, max(minus(whole, doubt), 0), plus(whole, doubt)})
	}
	sort.Slice(lengths, func(i, j int) bool {
		one, two := lengths[i], lengths[j]
		if one.high != two.high {
			return one.high > two.high
		}
		return one.at < two.at || one.at == two.at && one.sequence < two.sequence
	})
	if len(lengths) == 0 {
		c.nothing(0)
		return
	}
	f := figure{Unit: "micros", Low: 0, High: lengths[0].high, Target: c.clause.atMost}
	for _, l := range lengths {
		f.Low = max(f.Low, l.low)
		c.cite(l.sequence)
	}
	c.out.Figure = &f
	switch {
	case f.Low > f.Target:
		c.out.Outcome = "broken"
	case f.High <= f.Target:
		c.out.Outcome = "kept"
	}
}

// requests is which share of the requests of a probe was answered.
func (c *aCase) requests() {
	var counts []count
	asked := c.w.counting(c.clause.probe)
	// Answered and failed for certain, and perhaps.
	var sums [4]big.Int
	for _, n := range c.w.counts[c.clause.probe] {
		if _, isAsked := asked[n.observer]; !isAsked || n.End <= c.window.Start || n.Start >= c.window.End {
			continue
		}
		counts = append(counts, n)
		of := 0
		if n.Start < c.window.Start || n.End > c.window.End {
			of = 2
		}
		sums[of].Add(&sums[of], n.answered)
		sums[of+1].Add(&sums[of+1], n.failed)
	}
	sort.Slice(counts, func(i, j int) bool {
		one, two := counts[i], counts[j]
		if order := one.failed.Cmp(two.failed); order != 0 {
			return order > 0
		}
		if order := one.answered.Cmp(two.answered); order != 0 {
			return order > 0
		}
		return one.Start < two.Start || one.Start == two.Start && one.sequence < two.sequence
	})
	counted := c.counted().length()
	unobserved := c.elapsed() - counted
	plus := func(numbers ...*big.Int) *big.Int {
		sum := new(big.Int)
		for _, n := range numbers {
			sum.Add(sum, n)
		}
		return sum
	}
	answered, failed, maybeAnswered, maybeFailed := &sums[0], &sums[1], &sums[2], &sums[3]
	if c.elapsed() == 0 || plus(answered, failed, maybeAnswered, maybeFailed).Sign() == 0 {
		c.nothing(unobserved)
	} else {
		one := big.NewInt(partsPerWhole)
		// Rounded down, or up; of nothing it is `none`.
		ratio := func(part, whole *big.Int, isUp bool, none int64) *big.Int {
			if whole.Sign() == 0 {
				return big.NewInt(none)
			}
			quotient, rest := new(big.Int).DivMod(new(big.Int).Mul(part, one), whole, new(big.Int))
			if isUp && rest.Sign() > 0 {
				quotient.Add(quotient, big.NewInt(1))
			}
			return quotient
		}
		least := ratio(answered, plus(answered, failed, maybeFailed), false, 0)
		greatest := ratio(plus(answered, maybeAnswered), plus(answered, maybeAnswered, failed), true, partsPerWhole)
		low := new(big.Int).Mul(least, big.NewInt(counted))
		low.Div(low, big.NewInt(c.elapsed()))
		best := func(whole int64) int64 {
			parts := new(big.Int).Mul(greatest, big.NewInt(counted))
			parts.Add(parts, new(big.Int).Mul(one, big.NewInt(whole-counted)))
			quotient, rest := parts.DivMod(parts, big.NewInt(whole), new(big.Int))
			if rest.Sign() > 0 {
				quotient.Add(quotient, big.NewInt(1))
			}
			return quotient.Int64()
		}
		target, atBest := c.clause.atLeast, best(c.clause.over)
		c.out.Figure = &figure{"ppb", low.Int64(), best(c.elapsed()), target}
		switch {
		case low.Int64() >= target:
			c.out.Outcome = "kept"
		case atBest < target:
			c.out.Outcome = "broken"
		}
		c.becauseLength("unobserved", unobserved)
		if c.out.Outcome == "kept" && 2*(partsPerWhole-atBest) > minus(partsPerWhole, target) {
			c.because(reason{Reason: "at_risk"})
		}
	}
	for _, n := range counts {
		c.cite(n.sequence)
	}
}

// counted is the time of the window in which everybody who was asked to count did.
func (c *aCase) counted() set {
	var counted set
	for i, p := range c.w.policies {
		in := interval{max(p.from, c.window.Start), c.window.End}
		if i+1 < len(c.w.policies) {
			in.End = min(in.End, c.w.policies[i+1].from)
		}
		for _, probe := range p.Probes {
			if probe.ID != c.clause.probe || len(probe.Observers) == 0 {
				continue
			}
			byAll := set{}.add(in)
			for _, observer := range probe.Observers {
				var stretches []interval
				for _, n := range c.w.counts[probe.ID] {
					if n.observer == string(observer) {
						stretches = append(stretches, n.interval)
					}
				}
				byOne := join(stretches).less(c.w.doubtful[vantage(string(observer))])
				byAll = byAll.less(set{}.add(in).less(byOne))
			}
			for _, part := range byAll {
				counted = counted.add(part)
			}
		}
	}
	return counted
}

// A trouble is a time between two at which a service is up, at some of which it is not up for certain.
type trouble struct {
	interval
	recovered int64 // when the time before it began, at which the service was up
	starts    int64
	down      *interval // of a failure: from there to where it is last down
	told      *message
	low, high int64
	probes    []name
}

// least and most bound the time from one instant to another, between which clocks may have stepped.
func least(doubtful set, from, to int64) int64 {
	low, _ := lasted(doubtful, from, to)
	return low
}

func most(doubtful set, from, to int64) int64 {
	_, high := lasted(doubtful, from, to)
	return high
}

func lasted(doubtful set, from, to int64) (int64, int64) {
	to = max(to, from)
	length, doubt := minus(to, from), int64(0)
	for _, d := range doubtful {
		if d.Start <= to && d.End >= from {
			doubt = plus(doubt, minus(d.End, d.Start))
		}
	}
	return max(minus(length, doubt), 0), plus(length, doubt)
}

func (c *aCase) reaction() {
	services := []name{c.clause.service}
	if c.clause.service == "" {
		services = c.services()
	}
	var troubles []trouble
	var apart []interval
	downFor, outages := int64(0), int64(0)
	for _, service := range services {
		t := c.timesOf(subject{service: service}, true)
		whole := c.timesOf(subject{service: service}, false)
		troubles = append(troubles, c.troubles(service, whole.up, t)...)
		apart = append(apart, t.apart...)
		downFor, outages = plus(downFor, t.down.length()), outages+int64(len(t.down))
	}
	sort.SliceStable(troubles, func(i, j int) bool {
		one, two := troubles[i], troubles[j]
		return one.high > two.high || one.high == two.high && one.starts < two.starts
	})
	f := figure{Unit: "micros", Low: -1, High: -1, Target: c.clause.within}
	isProved := false
	for i, t := range troubles {
		f.Low, f.High = max(f.Low, t.low), max(f.High, t.high)
		isProved = isProved || t.down != nil
		if i >= citedMax {
			continue
		}
		if t.told != nil {
			c.cite(t.told.sequence)
		}
		if t.down != nil {
			c.citeSteps(*t.down, t.probes)
		}
	}
	if !isProved {
		isProved = c.tests(&f)
	}
	together := c.times(false)
	missed := together.blind.length()
	if f.High < 0 || c.elapsed() == 0 {
		c.nothing(missed)
		return
	}
	c.out.Figure = &f
	enough, _ := share(c.elapsed()-missed, c.elapsed())
	switch {
	case f.Low > f.Target:
		c.out.Outcome = "broken"
	case isProved && f.High <= f.Target && enough >= c.clause.seen:
		c.out.Outcome = "kept"
	}
	if outages > 0 {
		c.because(reason{Reason: "down", Length: &downFor, Outages: &outages})
	}
	if !isProved {
		c.because(reason{Reason: "no_evidence"})
	}
	c.becauseLength("unobserved", missed)
	c.becauseLength("maintenance", join(apart).length())
	if 2*together.lone.length() > c.elapsed()-missed {
		c.because(reason{Reason: "lone_observer"})
	}
}

// offences is the reaction to offences: how soon each of them was answered by a ban.
func (c *aCase) offences() {
	type wait struct {
		message
		low, high int64
	}
	var waits []wait
	for _, probe := range c.concerned() {
		for _, m := range c.w.bans[probe] {
			if m.at < c.window.Start || m.at >= c.window.End {
				continue
			}
			low, high := lasted(c.w.doubtful[vantage(m.observer)], max(m.since, c.window.Start), m.at)
			waits = append(waits, wait{m, low, high})
		}
	}
	sort.Slice(waits, func(i, j int) bool {
		one, two := waits[i], waits[j]
		if one.high != two.high {
			return one.high > two.high
		}
		return one.at < two.at || one.at == two.at && one.sequence < two.sequence
	})
	t := c.times(false)
	up := t.up.length()
	missed := c.elapsed() - up - t.down.length()
	if len(waits) == 0 {
		c.nothing(missed)
		return
	}
	f := figure{Unit: "micros", Low: 0, High: waits[0].high, Target: c.clause.within}
	for _, w := range waits {
		f.Low = max(f.Low, w.low)
		c.cite(w.sequence)
	}
	c.out.Figure = &f
	enough, _ := share(up, c.elapsed())
	switch {
	case f.Low > f.Target:
		c.out.Outcome = "broken"
	case f.High <= f.Target && enough >= c.clause.seen:
		c.out.Outcome = "kept"
	}
	c.becauseDown(t.down)
	c.becauseLength("unobserved", missed)
	if 2*t.lone.length() > up {
		c.because(reason{Reason: "lone_observer"})
	}
}

// tests lets the test messages of the window bear on the figure, and says whether there are any.
func (c *aCase) tests(f *figure) bool {
	var tests []message
	for _, m := range c.w.tests {
		if c.window.Start <= min(m.since, m.at) && max(m.since, m.at) < c.window.End {
			tests = append(tests, m)
		}
	}
	sort.Slice(tests, func(i, j int) bool {
		one, two := tests[i], tests[j]
		a, b := max(minus(one.at, one.since), 0), max(minus(two.at, two.since), 0)
		if a != b {
			return a > b
		}
		return one.at < two.at || one.at == two.at && one.sequence < two.sequence
	})
	for _, m := range tests {
		low, high := lasted(c.w.doubtful[vantage(m.observer)], m.since, m.at)
		f.Low, f.High = max(f.Low, low), max(f.High, high)
		c.cite(m.sequence)
	}
	return len(tests) > 0
}

// troubles are those of a service that bear on the figure. `up` is with what is set apart for maintenance, `t` is without.
func (c *aCase) troubles(service name, up set, t times) []trouble {
	var bearing []trouble
	probes := c.concernedBy(subject{service: service})
	for i, before := range up {
		now := trouble{interval: interval{before.End, c.window.End}, recovered: before.Start, probes: probes}
		if i+1 < len(up) {
			now.End = up[i+1].Start
		}
		isDown, isUndecided := t.down.cut(now.interval), t.undecided.cut(now.interval)
		switch {
		case len(isDown) > 0:
			now.starts = isDown[0].Start
			now.down = &interval{now.starts, isDown[len(isDown)-1].End}
		case len(isUndecided) > 0:
			now.starts = isUndecided[0].Start
		default:
			continue
		}
		if c.bears(&now) {
			bearing = append(bearing, now)
		}
	}
	return bearing
}

// bears says whether a trouble bears on the figure, and how.
func (c *aCase) bears(t *trouble) bool {
	var doubtful []interval
	for _, probe := range t.probes {
		for _, observer := range c.w.observers(probe) {
			doubtful = append(doubtful, c.w.doubtful[vantage(observer)]...)
		}
		for i := range c.w.messages[probe] {
			m := &c.w.messages[probe][i]
			if m.since < t.recovered || m.since >= t.End || m.since < t.Start && m.at < t.Start {
				continue
			}
			if t.told == nil || m.at < t.told.at || m.at == t.told.at && m.sequence < t.told.sequence {
				t.told = m
			}
		}
	}
	if t.told != nil {
		doubtful = append(doubtful, c.w.doubtful[vantage(t.told.observer)]...)
	}
	q := join(doubtful)
	within := c.clause.within
	due := plus(t.starts, within)
	switch {
	case t.told != nil && t.told.at <= due:
		t.low, t.high = lasted(q, t.starts, t.told.at)
		return t.down != nil
	case most(q, t.starts, t.End) <= within:
		return false
	case t.told != nil:
		t.high = most(q, t.starts, t.told.at)
	default:
		t.high = most(q, t.starts, t.End)
	}
	if t.down != nil && least(q, t.starts, t.down.End) > within {
		if t.told != nil {
			t.low = least(q, t.starts, t.told.at)
		} else if c.window.End >= plus(due, late) {
			t.low = least(q, t.starts, t.down.End)
		}
	}
	return true
}

// services are those that had a probe at some time of the window, in the order of their names.
func (c *aCase) services() []name {
	found := make(map[name]bool)
	c.policiesOver(func(p *policy) {
		for _, probe := range p.Probes {
			found[probe.Service] = true
		}
	})
	return sorted(found)
}

func sorted(found map[name]bool) []name {
	var names []name
	for one := range found {
		names = append(names, one)
	}
	sort.Slice(names, func(i, j int) bool { return names[i] < names[j] })
	return names
}

func (c *aCase) cite(sequence int64) {
	for _, cited := range c.out.Evidence {
		if cited == sequence {
			return
		}
	}
	if sequence >= 0 && len(c.out.Evidence) < citedMax {
		c.out.Evidence = append(c.out.Evidence, sequence)
	}
}

// concerned are the probes that belonged to the service, or in which the finding was looked for, at some time of the window;
// or the one probe of the objective; in the order of their names.
func (c *aCase) concerned() []name {
	if c.clause.probe != "" {
		return []name{c.clause.probe}
	}
	return c.concernedBy(c.clause.subject())
}

func (c *aCase) concernedBy(s subject) []name {
	found := make(map[name]bool)
	c.policiesOver(func(p *policy) {
		for _, part := range s.parts(p) {
			found[part.probe] = true
		}
	})
	return sorted(found)
}

// policiesOver gives each policy that was in effect at some time of the window.
func (c *aCase) policiesOver(give func(*policy)) {
	for i := range c.w.policies {
		until := int64(math.MaxInt64)
		if i+1 < len(c.w.policies) {
			until = c.w.policies[i+1].from
		}
		if max(c.w.policies[i].from, c.window.Start) < min(until, c.window.End) {
			give(&c.w.policies[i])
		}
	}
}

func (c *aCase) citeCoverage() {
	asked := make(map[string]bool)
	for _, probe := range c.concerned() {
		for _, observer := range c.w.observers(probe) {
			asked[observer] = true
		}
	}
	var observers []string
	for observer := range asked {
		observers = append(observers, observer)
	}
	sort.Strings(observers)
	count := 0
	for _, observer := range observers {
		if newest, has := c.w.newest[observer]; has && newest.end > c.window.Start && count < coverageMax {
			count++
			c.cite(newest.sequence)
		}
	}
}

func (c *aCase) citeOutages(outages set, most int) {
	longest := append(set{}, outages...)
	sort.SliceStable(longest, func(i, j int) bool {
		return longest[i].End-longest[i].Start > longest[j].End-longest[j].Start
	})
	probes := c.concerned()
	for i, outage := range longest {
		if i >= most {
			break
		}
		c.citeSteps(outage, probes)
	}
}

// citeSteps cites what bounds an outage, by each observer of these probes.
func (c *aCase) citeSteps(outage interval, probes []name) {
	for _, probe := range probes {
		for _, observer := range c.w.observers(probe) {
			line := c.w.lines[look{observer, probe, c.clause.finding}]
			if line == nil {
				continue
			}
			holds := sort.Search(len(line.steps), func(i int) bool { return line.steps[i].from > outage.Start }) - 1
			if holds >= 0 && line.steps[holds].standing == down && line.steps[holds].from >= c.window.Start {
				c.cite(line.steps[holds].sequence)
			}
			for _, step := range line.steps {
				if step.from == outage.End {
					c.cite(step.sequence)
				}
			}
		}
	}
}

// What computing a verdict again made of it.
const (
	confirmed = iota
	outOfReach
	notJudged
)

type subjectOf struct {
	promise   name
	objective int64
}

type lastWord struct {
	sequence int64
	revision string
	standing int
}

type expected struct {
	promise   name
	revision  string
	objective int64
}

// A recheck computes the verdicts of a log again, in the order of its entries.
type recheck struct {
	a       *audit
	world   *world
	waiting []int64
	counts  [notJudged + 1]int
	latest  map[subjectOf]lastWord

	reach       int64 // windows that start before rest on destroyed evidence
	untoldSince *int64
	policyLost  int64
	verdictLost int64 // the newest verdict of which nothing can be told
	isUnknown   bool  // it was of a later version

	clock, lookAt int64 // log time
	recordedAt    *int64
	expected      map[expected]int64
}

// checkFigures computes every verdict again.
func (a *audit) checkFigures() error {
	r := &recheck{
		a: a, world: newWorld(), latest: make(map[subjectOf]lastWord), expected: make(map[expected]int64),
		reach: math.MinInt64, policyLost: -1, verdictLost: -1,
	}
	for n := int64(0); n < a.tree.N; n++ {
		e := a.payload[n]
		l := a.leaves[n]
		switch {
		case e == nil && !strings.HasPrefix(l.coarse, teamPrefix):
			r.destroyed(n, l)
			continue
		case e == nil:
			continue
		}
		if err := r.advance(n, e.RecordedAt); err != nil {
			return err
		}
		var err error
		switch {
		case e.Type == "promise.verdict":
			err = r.verdict(n, e)
		case !facts[e.Type]:
		case e.Version > version:
			if e.Type == "policy.applied" {
				r.policyLost, r.expected = n, make(map[expected]int64)
			}
		default:
			err = r.fact(n, e)
		}
		if err != nil {
			return fmt.Errorf("entry %d: %w", n, err)
		}
	}
	if err := r.foldBelow(a.tree.N); err != nil {
		return err
	}
	fmt.Printf("verdicts: %d computed again, every member of them; %d out of reach, %d not judged\n",
		r.counts[confirmed], r.counts[outOfReach], r.counts[notJudged])
	r.conclude()
	return nil
}

func (r *recheck) destroyed(n int64, l leaf) {
	r.reach = max(r.reach, plus((l.hour+1)*microsHour, retoldWithin))
	clock := r.clock
	r.untoldSince = &clock
	switch l.coarse {
	case "policy.applied":
		r.policyLost = n
	case "promise.verdict":
		r.loseVerdict(n, false)
	}
}

func (r *recheck) loseVerdict(n int64, isUnknown bool) {
	r.verdictLost, r.isUnknown = n, isUnknown
	for what := range r.expected {
		r.expected[what] = r.clock
	}
}

func (r *recheck) advance(n, recordedAt int64) error {
	if r.recordedAt != nil {
		r.clock += min(max(minus(recordedAt, *r.recordedAt), 0), silenceMax)
	}
	r.recordedAt = &recordedAt
	if r.clock < r.lookAt {
		return nil
	}
	r.lookAt = r.clock + lookEvery
	for what, seen := range r.expected {
		if r.clock-seen > lapse {
			return fmt.Errorf("entry %d: %s, objective %d, has no verdict for 25 h of log time", n, what.promise, what.objective)
		}
	}
	return nil
}

func (r *recheck) fact(n int64, e *envelope) error {
	if e.Type == "policy.applied" {
		if err := r.declared(e); err != nil {
			return err
		}
		if r.untoldSince != nil {
			r.reach, r.untoldSince = max(r.reach, e.RecordedAt), nil
		}
	}
	r.waiting = append(r.waiting, n)
	if len(r.waiting) > behindMax {
		return r.foldBelow(r.waiting[0] + 1)
	}
	return nil
}

func (r *recheck) declared(e *envelope) error {
	var p policy
	if err := decode(e.Body, &p); err != nil {
		return err
	}
	if err := checkRevision(e.Body, p.Revision); err != nil {
		return err
	}
	var raw struct{ Promises []json.RawMessage }
	if err := decode(e.Body, &raw); err != nil {
		return err
	}
	before := r.expected
	r.expected = make(map[expected]int64)
	for i, promise := range p.Promises {
		if err := checkRevision(raw.Promises[i], promise.Revision); err != nil {
			return fmt.Errorf("promise %s: %w", promise.ID, err)
		}
		for number := range promise.Objectives {
			what := expected{promise.ID, promise.Revision, int64(number)}
			seen, known := before[what]
			if !known {
				seen = r.clock
			}
			r.expected[what] = seen
		}
	}
	return nil
}

func (r *recheck) foldBelow(size int64) error {
	if size <= r.world.next {
		return nil
	}
	r.world.next = size
	for len(r.waiting) > 0 && r.waiting[0] < size {
		n := r.waiting[0]
		r.waiting = r.waiting[1:]
		if err := r.world.apply(n, r.a.payload[n]); err != nil {
			return fmt.Errorf("entry %d: %w", n, err)
		}
	}
	return nil
}

// knowsPolicy says whether the policy in effect can be read.
func (r *recheck) knowsPolicy() bool {
	policies := r.world.policies
	return len(policies) > 0 && r.policyLost < policies[len(policies)-1].sequence
}

func (r *recheck) verdict(n int64, e *envelope) error {
	var header struct {
		Promise   name
		Revision  string
		Objective int64
		Evaluator int64
	}
	if err := decode(e.Body, &header); err != nil || header.Objective < 0 {
		if e.Version <= version {
			return fmt.Errorf("not a verdict: %v", err)
		}
		r.counts[notJudged]++
		r.loseVerdict(n, true)
		return nil
	}
	what := expected{header.Promise, header.Revision, header.Objective}
	if _, known := r.expected[what]; known {
		r.expected[what] = r.clock
	}
	standing := notJudged
	if e.Version <= version && header.Evaluator == evaluator {
		var err error
		if standing, err = r.judge(n, e); err != nil {
			return err
		}
	}
	r.counts[standing]++
	r.latest[subjectOf{header.Promise, header.Objective}] = lastWord{n, header.Revision, standing}
	return nil
}

func (r *recheck) judge(n int64, e *envelope) (int, error) {
	var v verdict
	if err := decode(e.Body, &v); err != nil {
		return 0, err
	}
	switch {
	case v.TreeSize > n:
		return 0, fmt.Errorf("it read %d entries, more than there were", v.TreeSize)
	case v.TreeSize < r.world.next:
		return 0, fmt.Errorf("it goes back: it read %d entries, where %d were to be read", v.TreeSize, r.world.next)
	case v.At > plus(e.RecordedAt, skew) || v.At < minus(e.RecordedAt, oldMax):
		return 0, fmt.Errorf("it is as of %d and was recorded at %d", v.At, e.RecordedAt)
	}
	if err := r.foldBelow(v.TreeSize); err != nil {
		return 0, err
	}
	computed, over, declared, known := r.world.compute(v)
	switch {
	case declared && !known && computed.Revision == v.Revision:
		return notJudged, nil
	case known && reflect.DeepEqual(computed, v):
		return confirmed, nil
	}
	isUntold := r.untoldSince != nil && r.clock-*r.untoldSince <= retoldWithin
	restsOnDestroyed := isUntold || minus(v.At, over) < r.reach
	if restsOnDestroyed && (!r.knowsPolicy() || known && computed.Revision == v.Revision) {
		return outOfReach, nil
	}
	if !known {
		return 0, fmt.Errorf("%s has no objective %d in the policy in effect", v.Promise, v.Objective)
	}
	said, _ := json.Marshal(v)
	made, _ := json.Marshal(computed)
	return 0, fmt.Errorf("a verdict on %s: it says\n%s\nthe entries make it\n%s", v.Promise, said, made)
}

// conclude says which verdicts in effect are only what the log says.
func (r *recheck) conclude() {
	doubt := func(text string, arguments ...interface{}) {
		r.a.doubts = append(r.a.doubts, fmt.Sprintf(text, arguments...))
	}
	if !r.knowsPolicy() {
		doubt("the policy in effect can't be read")
		return
	}
	unconfirmed := 0
	for _, p := range r.world.policies[len(r.world.policies)-1].Promises {
		for number := range p.Objectives {
			last, has := r.latest[subjectOf{p.ID, int64(number)}]
			switch {
			case !has && r.verdictLost >= 0 && r.isUnknown:
				unconfirmed++
			case has && last.revision == p.Revision && (last.standing != confirmed || r.verdictLost > last.sequence):
				unconfirmed++
			}
		}
	}
	if unconfirmed > 0 {
		doubt("%d verdicts in effect were not computed again: a later release wrote them, or what they rest on is destroyed", unconfirmed)
	}
}
